// Line mode: a command is written in peace and sent as a whole, with earlier ones at hand.

import { asTyped } from "../core/frames.js";
import { Lines, LONGEST } from "../core/lines.js";
import { byId, confirmed, tell } from "./page.js";
import { forget, load, save } from "./storage.js";

const encoder = new TextEncoder();

export class Line {
  /** `send(text)`: true where it went out. `scrollPages(count)`: Page Up and Page Down scroll the output. */
  constructor({ settings, send, scrollPages }) {
    this.settings = settings;
    this.send = send;
    this.scrollPages = scrollPages;
    this.field = byId("line-text");
    this.ghost = byId("line-ghost");
    this.lines = new Lines();
    byId("line").addEventListener("submit", (event) => {
      event.preventDefault();
      this.enter();
    });
    this.field.addEventListener("input", () => {
      this.lines.edited();
      this.suggest();
    });
    this.field.addEventListener("keydown", (event) => this.key(event));
    this.field.addEventListener("drop", (event) => this.paste(event));
    this.field.addEventListener("paste", (event) => this.paste(event));
    this.field.addEventListener("scroll", () => (this.ghost.scrollLeft = this.field.scrollLeft));
    byId("forget-lines").addEventListener("click", () => this.forget());
    settings.onChange((name, value) => name === "keepLines" && !value && this.forget());
  }

  /** Whose commands these are. */
  useServer(serverId) {
    this.store = `lines.${serverId}`;
    this.lines = new Lines(load(this.store, []));
    this.put("");
  }

  /** What is typed reaches a program only while one runs. */
  setRunning(running) {
    this.field.placeholder = running ? "Type a command" : "The server is not running";
  }

  focus() {
    this.field.focus();
  }

  forget() {
    this.lines = new Lines();
    if (this.store) forget(this.store);
    this.suggest();
    tell("Remembered commands are forgotten.");
  }

  enter() {
    const line = this.field.value;
    if (encoder.encode(line).length > LONGEST) {
      tell(`A line holds at most ${LONGEST} bytes.`, { kind: "warn" });
      return;
    }
    if (!this.send(asTyped(line))) {
      tell("Not sent: there is no connection just now.", { kind: "warn" });
      return;
    }
    this.lines.sent(line);
    if (this.store && this.settings.get("keepLines")) save(this.store, this.lines.all);
    this.put("");
  }

  put(text) {
    this.field.value = text;
    this.field.setSelectionRange(text.length, text.length);
    this.suggest();
  }

  suggest() {
    const typed = this.field.value;
    const whole = this.lines.completion(typed);
    const known = document.createElement("i");
    known.textContent = typed;
    this.ghost.replaceChildren(...(whole ? [known, whole.slice(typed.length)] : []));
    this.suggested = whole;
  }

  key(event) {
    if (event.isComposing || event.ctrlKey || event.altKey || event.metaKey) return;
    const atEnd = this.field.selectionStart === this.field.value.length;
    const act = {
      ArrowUp: () => this.walk(this.lines.older(this.field.value)),
      ArrowDown: () => this.walk(this.lines.newer()),
      Tab: !event.shiftKey && this.suggested ? () => this.put(this.suggested) : null,
      ArrowRight: !event.shiftKey && atEnd && this.suggested ? () => this.put(this.suggested) : null,
      PageUp: () => this.scrollPages(-1),
      PageDown: () => this.scrollPages(1),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  walk(line) {
    if (line === null) return;
    const walked = this.lines.at;
    this.put(line);
    this.lines.at = walked;
  }

  /** Several lines at once, pasted or dropped, are asked about, then sent one after the other. */
  async paste(event) {
    const text = (event.clipboardData ?? event.dataTransfer)?.getData("text/plain") ?? "";
    const lines = text.replace(/\r\n?/g, "\n").replace(/\n+$/, "").split("\n");
    if (lines.length < 2) return;
    event.preventDefault();
    if (lines.some((line) => encoder.encode(line).length > LONGEST)) {
      tell(`Not sent: a line holds at most ${LONGEST} bytes.`, { kind: "warn" });
      return;
    }
    const shown = lines.slice(0, 5).join("\n") + (lines.length > 5 ? "\n…" : "");
    const yes = await confirmed({ title: `Send ${lines.length} lines?`, text: shown.slice(0, 600), yes: "Send" });
    if (yes && !this.send(asTyped(lines.join("\n")))) tell("Not sent: there is no connection, or it is too much at once.", { kind: "warn" });
    this.focus();
  }
}
