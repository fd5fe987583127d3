// What comes faster than the terminal can draw it: its newest end is kept, the rest is counted. No DOM.

export const MOST = 4 * 2 ** 20; // bytes that the terminal has not drawn yet; beyond, output waits here
export const TAIL = 262144; // bytes kept here: the newest

export class Backlog {
  constructor({ most = MOST, tail = TAIL } = {}) {
    this.most = most;
    this.tail = tail;
    this.waiting = 0; // bytes given to the terminal and not drawn yet
    this.kept = []; // {bytes, offset}: what comes after them
    this.held = 0; // bytes in `kept`
    this.passed = 0; // bytes that will not be drawn
  }

  /** Output came: true where it may be drawn now, else it is kept here until `release`. */
  admits(bytes, offset) {
    if (!this.kept.length && this.waiting <= this.most) return true;
    this.kept.push({ bytes, offset });
    this.held += bytes.length;
    while (this.held - this.kept[0].bytes.length >= this.tail) this.drop();
    return false;
  }

  drop() {
    const { bytes } = this.kept.shift();
    this.held -= bytes.length;
    this.passed += bytes.length;
  }

  /** `count` bytes were given to the terminal. */
  given(count) {
    this.waiting += count;
  }

  /** `count` bytes were drawn: {passed, kept} where what was kept may be drawn now, else null. */
  drew(count) {
    this.waiting -= count;
    if (!this.kept.length || this.waiting > this.most / 4) return null;
    const { kept, passed } = this;
    this.kept = [];
    this.held = this.passed = 0;
    return { kept, passed };
  }
}
