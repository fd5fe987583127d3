'use strict'
// usage: node prune.js NODE_MODULES VERSION…   Removes the game data of all versions of Minecraft but these.
const fs = require('fs')
const path = require('path')

const [modules, ...versions] = process.argv.slice(2)
const root = path.join(modules, 'minecraft-data', 'minecraft-data', 'data')
const places = JSON.parse(fs.readFileSync(path.join(root, 'dataPaths.json'), 'utf8')).pc
const kept = new Set(['pc/common', 'pc/latest', 'bedrock/common'])
for (const version of versions) Object.values(places[version] || {}).forEach(place => kept.add(place))
for (const edition of ['pc', 'bedrock']) {
  for (const name of fs.readdirSync(path.join(root, edition))) {
    if (!kept.has(`${edition}/${name}`)) fs.rmSync(path.join(root, edition, name), { recursive: true })
  }
}
