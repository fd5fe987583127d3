// The WebSocket to the console: opened, authenticated by its first frame, kept alive, opened again where it breaks.
// A token is held here, in memory, and nowhere else.

import { delayAfter } from "../core/backoff.js";
import { meaningOf } from "../core/closing.js";
import { bytesOf, consoleAddress, keysOf, Position, readFrame, SUBPROTOCOL } from "../core/frames.js";

const SCROLLBACK = 262144; // bytes shown at first
const PING_EVERY = 20000; // ms
const PONG_WITHIN = 10000;
const HISTORY_WITHIN = 20000;
const KEYS_PAUSE = 150; // ms between frames of a long paste: the daemon takes 64 KiB a second
const MOST_TYPED = 1024 * 1024; // bytes that wait for their turn

/**
 * `listener` is told: state(name, detail), ready(message), output(bytes, offset), gap(count or null),
 * afresh(), message(message), refused(text), renewed(message), notRenewed(text).
 * States: idle, connecting, open, waiting (detail: seconds), closed (detail: why).
 */
export class Connection {
  constructor(base, listener) {
    this.base = base;
    this.listener = listener;
    this.token = null;
    this.position = new Position();
    this.socket = null;
    this.gone = false; // the server was deleted: one of its name is another
    this.attempt = 0;
    this.timers = { again: 0, ping: 0, pong: 0, keys: 0, history: 0 };
    this.asked = []; // history pages wanted; the first is under way
    this.typed = []; // frames of keys that wait for their turn
    addEventListener("online", () => this.now());
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.now());
  }

  /** Opens the console that `token` is for. `afresh`: another server's, so nothing is resumed. */
  open(token, { afresh = false } = {}) {
    this.token = token;
    if (afresh) this.position = new Position();
    if (this.gone) this.listener.afresh();
    this.gone = false;
    this.attempt = 0;
    this.drop();
    this.connect();
  }

  get isOpen() {
    return this.ready === true;
  }

  /** Tells the daemon a newer token on the open connection, or opens one with it. */
  renew(token) {
    this.token = token;
    if (this.isOpen) this.send({ type: "auth", token });
    else this.open(token);
  }

  send(message) {
    if (this.isOpen) this.socket.send(JSON.stringify(message));
    return this.isOpen;
  }

  /** Keys to the PTY; a long text goes out in pieces, as fast as the daemon takes them. False: it is not sent. */
  type(text) {
    if (!this.isOpen || text.length > MOST_TYPED) return false;
    const pieces = keysOf(text);
    const size = (all) => all.reduce((sum, piece) => sum + piece.length, 0);
    if (size(this.typed) + size(pieces) > MOST_TYPED) return false;
    this.typed.push(...pieces);
    if (!this.timers.keys) this.typeNext();
    return true;
  }

  typeNext() {
    this.timers.keys = 0;
    if (!this.isOpen || !this.typed.length) return;
    this.socket.send(this.typed.shift());
    if (this.typed.length) this.timers.keys = setTimeout(() => this.typeNext(), KEYS_PAUSE);
  }

  /** A page of kept output that ends at `before`: {from, end, first, bytes, runs}. Rejected where the connection breaks. */
  history(before, limit) {
    return new Promise((resolve, reject) => {
      this.asked.push({ message: { type: "history", before, limit }, resolve, reject });
      if (this.asked.length === 1) this.askNext();
    });
  }

  askNext() {
    clearTimeout(this.timers.history);
    const [first] = this.asked;
    if (!first) return;
    if (!this.send(first.message)) return this.forgetAsked();
    this.timers.history = setTimeout(() => this.answered(null), HISTORY_WITHIN);
  }

  answered(page) {
    const first = this.asked.shift();
    if (page) first?.resolve(page);
    else first?.reject(new Error("no answer"));
    this.askNext();
  }

  forgetAsked() {
    clearTimeout(this.timers.history);
    this.asked.splice(0).forEach(({ reject }) => reject(new Error("not connected")));
  }

  // ------------------------------------------------------------------ the socket

  connect() {
    this.listener.state("connecting");
    const since = this.position.end;
    const socket = new WebSocket(consoleAddress(this.base, { since, scrollback: SCROLLBACK }), [SUBPROTOCOL]);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onopen = () => socket.send(JSON.stringify({ type: "auth", token: this.token }));
    socket.onmessage = (event) => socket === this.socket && this.heard(event.data);
    socket.onclose = (event) => socket === this.socket && this.closed(event.code, event.reason);
  }

  /** Lets go of the socket without a word to the listener. */
  drop() {
    const socket = this.socket;
    this.socket = null;
    this.ready = false;
    Object.keys(this.timers).forEach((name) => {
      clearTimeout(this.timers[name]);
      this.timers[name] = 0;
    });
    this.typed = [];
    this.forgetAsked();
    socket?.close();
  }

  /** The network or the person is back: no waiting. An open connection is asked whether it lives. */
  now() {
    if (this.timers.again) {
      clearTimeout(this.timers.again);
      this.timers.again = 0;
      this.connect();
    } else if (this.isOpen) this.ping();
  }

  closed(code, reason) {
    const meaning = meaningOf(code, reason);
    this.drop();
    if (code === 4404) {
      this.position = new Position();
      this.gone = true;
    }
    if (meaning.then === "token") {
      this.listener.state("closed", meaning.text);
      return this.listener.refused(meaning.text, code);
    }
    if (meaning.then === "afresh") {
      this.position = new Position();
      this.listener.afresh();
    }
    const first = meaning.then === "slowly" ? 5 : undefined;
    const seconds = delayAfter(this.attempt, Math.random, { first });
    this.attempt += 1;
    this.listener.state("waiting", { seconds, text: meaning.text });
    this.timers.again = setTimeout(() => {
      this.timers.again = 0;
      this.connect();
    }, seconds * 1000);
    return undefined;
  }

  // ------------------------------------------------------------------ what comes

  heard(frame) {
    clearTimeout(this.timers.pong);
    this.timers.pong = 0;
    if (typeof frame !== "string") {
      const bytes = new Uint8Array(frame);
      this.listener.output(bytes, this.position.took(bytes.length));
      return;
    }
    const message = readFrame(frame);
    if (message) this.take(message);
  }

  take(message) {
    switch (message.type) {
      case "ready":
        return this.begun(message);
      case "gap":
        return this.listener.gap(this.position.gap(message.from, message.to), message);
      case "history":
        return this.answered({ from: message.from, end: message.end, first: message.first, bytes: bytesOf(message.data), runs: message.runs ?? [] });
      case "pong":
        return undefined;
      case "auth.ok":
        return this.listener.renewed(message);
      case "error":
        return this.faulted(message);
      default:
        return this.listener.message(message);
    }
  }

  begun(message) {
    this.ready = true;
    this.attempt = 0;
    this.position.begin(message.from);
    this.timers.ping = setInterval(() => this.ping(), PING_EVERY);
    this.listener.state("open");
    this.listener.ready(message);
  }

  faulted(message) {
    if (message.code === "busy" && !message.action && this.asked.length) {
      clearTimeout(this.timers.history);
      this.timers.history = setTimeout(() => this.askNext(), 300);
    } else if (message.code === "unauthorized") this.listener.notRenewed(message.message);
    else this.listener.message(message);
  }

  ping() {
    if (!this.send({ type: "ping" }) || this.timers.pong) return;
    this.timers.pong = setTimeout(() => this.isOpen && this.closed(1006, "no answer"), PONG_WITHIN);
  }
}
