// Raw mode: keys go straight to the PTY; a row of keys that a phone's keyboard lacks.

import { byId } from "./page.js";

const SENT = {
  "ctrl-c": "\x03", "ctrl-d": "\x04", tab: "\t", escape: "\x1b", enter: "\r",
  up: "A", down: "B", right: "C", left: "D",
};

export class Keys {
  /** `type(text)` sends; `leave()` takes the focus out of the terminal. */
  constructor(terminal, { type, leave }) {
    const row = byId("keys");
    this.wanted = matchMedia("(pointer: coarse), (max-width: 760px)");
    this.wanted.addEventListener("change", () => this.show());
    row.addEventListener("mousedown", (event) => event.preventDefault()); // the terminal keeps the focus
    row.addEventListener("click", (event) => {
      const name = event.target.closest("button")?.dataset.key;
      if (name) type(name.length > 1 && SENT[name].length === 1 && SENT[name] >= "A" ? arrow(terminal, SENT[name]) : SENT[name]);
    });
    this.leave = leave;
    this.raw = false;
  }

  setRaw(raw) {
    this.raw = raw;
    this.show();
  }

  show() {
    byId("keys").hidden = !(this.raw && this.wanted.matches);
  }

  /** Ctrl-C where something is selected: it is copied, and the program is not interrupted. */
  isCopying(event, terminal) {
    return event.ctrlKey && !event.altKey && !event.metaKey && !event.shiftKey && event.key.toLowerCase() === "c" && terminal.hasSelection();
  }

  /** Ctrl-] leaves the terminal, as it leaves stellarctl's: nobody is locked in by the keyboard. */
  isLeaving(event) {
    return event.ctrlKey && !event.altKey && !event.metaKey && (event.key === "]" || event.code === "BracketRight");
  }
}

/** An arrow as the program has asked for it. */
function arrow(terminal, letter) {
  return `\x1b${terminal.modes.applicationCursorKeysMode ? "O" : "["}${letter}`;
}
