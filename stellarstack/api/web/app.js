// The front door: makes each part and tells them of one another. It decides nothing that a part could.

import { bytes, duration } from "./core/series.js";
import { Access } from "./parts/access.js";
import { Connection } from "./parts/connection.js";
import { Download } from "./parts/download.js";
import { Figures } from "./parts/figures.js";
import { Keys } from "./parts/keys.js";
import { Line } from "./parts/line.js";
import { Live } from "./parts/live.js";
import { byId, tell } from "./parts/page.js";
import { Past } from "./parts/past.js";
import { Power } from "./parts/power.js";
import { Search } from "./parts/search.js";
import { Settings } from "./parts/settings.js";
import { Theme } from "./parts/theme.js";

const BASE = document.baseURI.replace(/[#?].*$/, "");

class Page {
  constructor() {
    this.claims = null;
    this.permissions = new Set();
    this.canWrite = false;
    this.size = null;
    this.settings = new Settings();
    this.theme = new Theme(this.settings);
    this.connection = new Connection(BASE, this);
    this.figures = new Figures(this.settings);
    this.power = new Power((message) => this.connection.send(message));
    this.live = new Live(byId("terminal"), { settings: this.settings, theme: this.theme, told: this.liveTold() });
    this.past = new Past({
      settings: this.settings, theme: this.theme,
      ask: (before, limit) => this.connection.history(before, limit),
      newest: () => this.connection.position.end,
      told: { opened: () => this.pastShown(), closed: () => this.pastShown(), failed: () => tell("Older output could not be fetched.", { kind: "warn" }) },
    });
    this.line = new Line({
      settings: this.settings,
      send: (text) => this.sendLine(text),
      scrollPages: (count) => this.scrollPages(count),
    });
    this.keys = new Keys(this.live.terminal, { type: (text) => this.connection.type(text), leave: () => byId("mode-raw").focus() });
    const reach = () => ({ base: BASE, serverId: this.claims?.serverId ?? "", token: this.connection.token });
    const screen = () => (this.past.isOpen && this.past.front ? this.past.front : this.live);
    this.search = new Search({
      theme: this.theme, screen, reach, focusBack: () => this.focusInput(),
      goTo: (offset) => this.past.goTo(offset, 5, { select: true }),
    });
    this.download = new Download({ screen, reach });
    this.access = new Access((token, claims) => this.useToken(token, claims));
    this.listen();
  }

  listen() {
    byId("mode-line").addEventListener("change", () => this.setMode("line"));
    byId("mode-raw").addEventListener("change", () => this.setMode("raw"));
    byId("older").addEventListener("click", () => this.showOlder());
    byId("to-end").addEventListener("click", () => {
      this.live.terminal.scrollToBottom();
      byId("to-end").hidden = true;
    });
    this.live.terminal.attachCustomKeyEventHandler((event) => this.terminalKey(event));
    addEventListener("keydown", (event) => this.pageKey(event));
    setInterval(() => this.tick(), 1000);
  }

  begin() {
    this.setMode(this.settings.get("mode"));
    this.live.fitNow();
    this.access.begin(BASE);
  }

  // ------------------------------------------------------------------ told by the access

  useToken(token, claims) {
    const other = this.claims !== null && this.claims.serverId !== claims.serverId;
    const first = this.claims === null;
    this.claims = claims;
    if (first || other) {
      byId("server-name").textContent = claims.serverId;
      this.line.useServer(claims.serverId);
      if (other) this.afresh();
      this.connection.open(token, { afresh: other });
    } else this.connection.renew(token);
  }

  // ------------------------------------------------------------------ told by the connection

  state(name, detail) {
    const place = byId("connection");
    place.dataset.state = name;
    this.waitingUntil = name === "waiting" ? performance.now() + detail.seconds * 1000 : 0;
    place.textContent = { idle: "not connected", connecting: "connecting…", open: "live", closed: "not connected" }[name] ?? "";
    if (name === "waiting") {
      if (this.wasOpen) tell(`${detail.text} Trying again.`, { kind: "warn", seconds: 0 });
      this.wasOpen = false;
      this.wasLost = true;
    }
    if (name === "closed") tell("");
    if (name === "open") {
      if (this.wasLost) tell("Connected again.", { seconds: 4 });
      this.wasOpen = true;
      this.wasLost = false;
    } else {
      this.figures.breakOff(seconds());
      this.power.lost();
    }
    this.tick();
  }

  ready(message) {
    document.body.dataset.opened = "";
    this.power.found();
    this.live.replay(message.runs ?? [], message.from, message.end);
    this.canWrite = message.canWrite === true;
    this.permit(message.permissions ? new Set(message.permissions) : this.claims.permissions);
    this.setStatus(message.status);
    byId("server-name").textContent = message.serverId;
    byId("foot").hidden = !this.canWrite;
    this.size = null;
    this.live.fitNow();
    this.focusInput();
  }

  permit(permissions) {
    this.permissions = permissions;
    this.power.allow(permissions);
    this.figures.allow(permissions.has("stats.read"));
  }

  output(chunk, offset) {
    this.live.write(chunk, offset);
  }

  gap(count) {
    this.live.note(count === null ? "gap: some output is missing, nobody knows how much" : `gap: ${bytes(count)} not shown`);
  }

  /** The output is another one: another server's, or that of one made afresh. */
  afresh() {
    byId("confirm").close("no"); // a question about the other one
    this.live.clear();
    this.past.forget();
    this.search.forget();
    this.figures.forget();
    this.startedAt = null;
    this.status = undefined;
    this.tick();
  }

  message(message) {
    if (message.type === "status") {
      this.live.changed(message, this.status, this.connection.position.end);
      if (message.status === "crashed" && this.status !== "crashed") tell("The server has crashed. Its last words stand in the output.", { kind: "bad", seconds: 20 });
      this.setStatus(message.status);
    }
    else if (message.type === "stats") this.takeStats(message.metrics);
    else if (message.type === "notice") this.notice(message);
    else if (message.type === "token.expiring") this.access.wantSoon(message.expiresIn);
    else if (this.power.take(message)) return;
    else if (message.type === "error") tell(faultText(message), { kind: "warn" });
  }

  /** The daemon's own word on this console: that the server floods it, or does no more. */
  notice(message) {
    this.live.note(message.message);
    tell(message.message, message.code === "flood" ? { kind: "warn", seconds: 0 } : {});
  }

  renewed(message) {
    this.access.hide();
    tell("");
    if (typeof message.canWrite === "boolean") this.canWrite = message.canWrite;
    byId("foot").hidden = !this.canWrite;
    this.permit(message.permissions ? new Set(message.permissions) : this.claims.permissions);
    this.setMode(this.settings.get("mode"));
  }

  notRenewed(text) {
    this.access.want(`The node did not accept that: ${text}.`, "Another link is needed");
  }

  refused(text) {
    byId("foot").hidden = true;
    this.access.want(text);
  }

  // ------------------------------------------------------------------ status and figures

  setStatus(status) {
    this.status = status;
    const pill = byId("server-status");
    pill.hidden = false;
    pill.dataset.status = status;
    pill.textContent = status;
    document.title = `${this.claims.serverId} · ${status}`;
    this.power.setStatus(status);
    this.line.setRunning(!["stopped", "crashed"].includes(status));
    if (status === "stopped" || status === "crashed") {
      this.startedAt = null;
      this.figures.breakOff(seconds());
      this.figures.empty();
    }
    this.tick();
  }

  takeStats(metrics) {
    if (!metrics) return;
    this.figures.take(metrics, seconds());
    if (Number.isFinite(metrics.uptime)) this.startedAt = seconds() - metrics.uptime;
  }

  tick() {
    const up = byId("uptime");
    const shown = this.startedAt != null && ["running", "starting", "stopping"].includes(this.status);
    up.hidden = !shown;
    if (shown) up.textContent = `up ${duration(seconds() - this.startedAt)}`;
    if (this.waitingUntil) {
      const left = Math.max(1, Math.ceil((this.waitingUntil - performance.now()) / 1000));
      byId("connection").textContent = `reconnecting in ${left} s`;
    }
  }

  // ------------------------------------------------------------------ told by the terminal

  liveTold() {
    return {
      resize: (cols, rows) => this.tellSize(cols, rows),
      key: (text) => this.typeRaw(text),
      wantsOlder: () => this.showOlder(),
      scrolled: (atTop, atEnd) => {
        byId("older").hidden = !(atTop && !atEnd && this.hasOlder());
        byId("to-end").hidden = atEnd || this.past.isOpen;
      },
      fullScreen: (on) => {
        if (on && this.mode === "line" && this.canWrite) tell("A full-screen program runs. Raw mode sends it every key.", { seconds: 12 });
      },
    };
  }

  typeRaw(text) {
    if (this.mode !== "raw" || !this.canWrite || this.connection.type(text)) return;
    tell(this.connection.isOpen ? "Not sent: that is too much at once." : "Not sent: there is no connection just now.", { kind: "warn" });
  }

  tellSize(cols, rows) {
    const size = `${cols}x${rows}`;
    if (!this.canWrite || !this.connection.isOpen || size === this.size) return;
    if (this.connection.send({ type: "resize", cols, rows })) this.size = size;
  }

  hasOlder() {
    const oldest = this.live.oldest();
    return oldest !== null && oldest.offset > (this.past.first ?? 0) && this.connection.isOpen;
  }

  showOlder() {
    const oldest = this.live.oldest();
    if (!oldest || this.past.isOpen || !this.hasOlder()) return;
    this.past.goTo(oldest.offset, oldest.row);
  }

  pastShown() {
    const open = this.past.isOpen;
    byId("older").hidden = true;
    byId("to-end").hidden = true;
    this.live.terminal.element.inert = open;
    if (open) {
      const inside = this.past.front?.terminal;
      if (document.activeElement === document.body || document.activeElement?.closest("#terminal")) inside?.focus();
    } else {
      this.live.terminal.scrollToBottom();
      this.focusInput();
    }
  }

  /** What was sent is answered at the end of the output: that is shown. */
  sendLine(text) {
    if (!this.connection.type(text)) return false;
    this.past.close();
    this.live.terminal.scrollToBottom();
    return true;
  }

  scrollPages(count) {
    if (this.past.isOpen && this.past.front) {
      this.past.front.terminal.scrollPages(count);
      this.past.atEdge(count);
    } else if (count < 0 && this.live.atTop) this.showOlder();
    else {
      this.live.terminal.scrollPages(count);
      this.live.tellScroll();
    }
  }

  // ------------------------------------------------------------------ modes and keys

  setMode(mode) {
    this.mode = mode;
    this.settings.set("mode", mode);
    byId(`mode-${mode}`).checked = true;
    const raw = mode === "raw" && this.canWrite;
    byId("line").hidden = mode === "raw";
    byId("raw-hint").hidden = mode !== "raw";
    this.keys.setRaw(raw);
    this.live.setRaw(raw);
    if (raw) this.live.terminal.focus();
  }

  focusInput() {
    this.setMode(this.settings.get("mode"));
    if (this.past.isOpen || document.querySelector("dialog[open]")) return;
    if (window.parent !== window && !document.hasFocus()) return; // the panel's page keeps its focus
    if (!this.canWrite || matchMedia("(pointer: coarse)").matches) return;
    if (this.mode === "raw") this.live.terminal.focus();
    else this.line.focus();
  }

  /** False: xterm.js does not get the key. */
  terminalKey(event) {
    if (event.type !== "keydown") return true;
    if (this.mode !== "raw" || !this.canWrite) return this.readingKey(event);
    if (this.keys.isLeaving(event)) {
      event.preventDefault();
      this.keys.leave();
      return false;
    }
    if (this.keys.isCopying(event, this.live.terminal)) {
      event.preventDefault();
      this.download.copy().then(() => this.live.terminal.clearSelection());
      return false;
    }
    return !(event.ctrlKey && event.shiftKey && "cCvV".includes(event.key));
  }

  /** In line mode the terminal is only read: keys scroll it, and letters go to the line. */
  readingKey(event) {
    const plain = !event.ctrlKey && !event.altKey && !event.metaKey;
    const pages = { PageUp: -1, PageDown: 1 }[event.key];
    if (plain && (event.key === "Home" || event.key === "End")) {
      event.preventDefault();
      if (event.key === "End") this.live.terminal.scrollToBottom();
      else if (this.live.atTop) this.past.goTo(this.past.first);
      else this.live.terminal.scrollToTop();
      this.live.tellScroll();
    } else if (plain && pages) {
      event.preventDefault();
      this.scrollPages(pages);
    } else if (plain && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      event.preventDefault();
      if (event.key === "ArrowUp" && this.live.atTop) this.showOlder();
      this.live.terminal.scrollLines(event.key === "ArrowUp" ? -1 : 1);
    } else if (plain && event.key.length === 1 && this.canWrite) this.line.focus();
    return false;
  }

  pageKey(event) {
    if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "f") {
      if (this.mode === "raw" && !event.shiftKey && event.target.closest?.(".xterm")) return;
      event.preventDefault();
      this.search.open();
    } else if (event.ctrlKey && event.shiftKey && event.key.toLowerCase() === "c" && this.live.terminal.hasSelection()) {
      event.preventDefault();
      this.download.copy();
    }
  }
}

function seconds() {
  return performance.now() / 1000;
}

function faultText({ code, message }) {
  return {
    rate_limited: "Slower, please: the node takes only so much at once.",
    invalid_state: "The server is not running, so nothing can be typed.",
    forbidden: "Your access does not allow that.",
  }[code] ?? `The node says: ${message}`;
}

new Page().begin();
