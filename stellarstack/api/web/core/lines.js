// Earlier commands: kept, walked through, and offered again. No DOM.

export const KEPT = 300;
export const LONGEST = 4000; // bytes of a line, as server.command; the PTY cuts at 4 095
const LONGEST_KEPT = 1000;

export class Lines {
  constructor(kept = []) {
    this.all = kept.filter((line) => typeof line === "string" && line).slice(-KEPT);
    this.at = null;
    this.draft = "";
  }

  /** A line was sent. One that begins with a space, or is very long, is not kept; a repeat moves to the end. */
  sent(line) {
    this.at = null;
    if (!line.trim() || line.startsWith(" ") || line.length > LONGEST_KEPT) return;
    this.all = [...this.all.filter((kept) => kept !== line), line].slice(-KEPT);
  }

  /** The next older line that begins as the draft does, or null. `typed` is what stands in the field now. */
  older(typed) {
    if (this.at === null) {
      this.draft = typed;
      this.at = this.all.length;
    }
    for (let at = this.at - 1; at >= 0; at -= 1) {
      if (this.all[at].startsWith(this.draft)) {
        this.at = at;
        return this.all[at];
      }
    }
    return null;
  }

  /** The next newer one; after the newest the draft; null where nothing was walked. */
  newer() {
    if (this.at === null) return null;
    for (let at = this.at + 1; at < this.all.length; at += 1) {
      if (this.all[at].startsWith(this.draft)) {
        this.at = at;
        return this.all[at];
      }
    }
    this.at = null;
    return this.draft;
  }

  /** Somebody typed: walking begins anew. */
  edited() {
    this.at = null;
  }

  /** The newest line that goes on from `typed`; "" where there is none. */
  completion(typed) {
    if (!typed) return "";
    for (let at = this.all.length - 1; at >= 0; at -= 1) {
      if (this.all[at].startsWith(typed) && this.all[at] !== typed) return this.all[at];
    }
    return "";
  }
}
