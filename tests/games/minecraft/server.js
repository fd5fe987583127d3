'use strict'
// A server that speaks Minecraft's protocol (flying-squid). Like a Java one it takes its settings from
// server.properties in the working directory, adds those that are missing, says "Done" once it can be joined, and
// stops on `stop`. So templates that were made for the Java server meet it unchanged.
const fs = require('fs')

const FILE = 'server.properties'
const VERSION = '1.16.5'
const DEFAULTS = {
  'server-ip': '0.0.0.0',
  'server-port': '25565',
  motd: 'A Minecraft Server',
  'max-players': '20',
  'online-mode': 'false',
  gamemode: '1',
  'level-name': 'world',
  'view-distance': '4'
}

function unescaped (text) {
  const known = { n: '\n', t: '\t', r: '\r' }
  return text.replace(/\\(?:u([0-9a-fA-F]{4})|(.))/g, (_, code, letter) =>
    code ? String.fromCharCode(parseInt(code, 16)) : known[letter] || letter)
}

function settings () {
  const text = fs.existsSync(FILE) ? fs.readFileSync(FILE, 'utf8') : ''
  const found = {}
  for (const line of text.split(/\r?\n/)) {
    const pair = /^\s*([^#!=:\s][^=:\s]*)\s*[=:]\s*(.*)$/.exec(line)
    if (pair) found[pair[1]] = unescaped(pair[2])
  }
  const missing = Object.keys(DEFAULTS).filter(key => !(key in found))
  if (missing.length) fs.appendFileSync(FILE, missing.map(key => `${key}=${DEFAULTS[key]}\n`).join(''))
  return { ...DEFAULTS, ...found }
}

const began = Date.now()
const chosen = settings()
const server = require('flying-squid').createMCServer({
  host: chosen['server-ip'],
  port: Number(chosen['server-port']),
  motd: chosen.motd,
  'max-players': Number(chosen['max-players']),
  'online-mode': chosen['online-mode'] === 'true',
  gameMode: Number(chosen.gamemode) || 0,
  difficulty: 1,
  'view-distance': Number(chosen['view-distance']),
  worldFolder: `${chosen['level-name']}/${VERSION}`,
  generation: { name: 'superflat', options: { worldHeight: 80 } },
  'player-list-text': { header: { text: '' }, footer: { text: '' } },
  'everybody-op': false,
  'max-entities': 100,
  kickTimeout: 10000,
  logging: true,
  modpe: false,
  plugins: {},
  version: VERSION
})

server.on('ready', () => {
  const seconds = ((Date.now() - began) / 1000).toFixed(3)
  console.log(`[Server thread/INFO]: Done (${seconds}s)! For help, type "help"`)
})
server.on('error', error => {
  console.error(`FATAL ${error.message}`)
  process.exit(1)
})
