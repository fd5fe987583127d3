// A window on the kept output: a few pages of whole lines that slides back and forth, so memory is bounded however far
// somebody scrolls. No DOM. Offsets are bytes of the PTY (docs/protocol.rst, section 8).

export const PAGE = 131072; // bytes asked for at once
export const LINES = 4000; // of one page at most
export const PAGES = 4; // kept
const NEWLINE = 10;

/** The end of the line that holds `at`, plus one; the length where there is no more newline. */
function afterLine(bytes, at) {
  const found = bytes.indexOf(NEWLINE, at);
  return found < 0 ? bytes.length : found + 1;
}

/** The whole lines at the end of a page, `most` of them; `whole`: it begins where the kept output begins. */
export function lastLines(page, { whole, most = LINES }) {
  let start = whole ? 0 : afterLine(page.bytes, 0);
  if (start >= page.bytes.length) start = 0; // one line longer than a page stays as it is
  let at = page.bytes.length - 1;
  for (let count = 0; at > start && count <= most; count += 1) at = page.bytes.lastIndexOf(NEWLINE, at - 1);
  const cut = at > start ? at + 1 : start;
  return { from: page.from + cut, bytes: page.bytes.subarray(cut) };
}

/** The whole lines at the start of a page, `most` of them; `whole`: it ends at the newest byte. */
export function firstLines(page, { whole, most = LINES }) {
  let at = 0;
  for (let count = 0; at < page.bytes.length && count < most; count += 1) at = afterLine(page.bytes, at);
  if (at >= page.bytes.length && !whole) {
    const last = page.bytes.lastIndexOf(NEWLINE);
    at = last < 0 ? page.bytes.length : last + 1;
  }
  return { from: page.from, bytes: page.bytes.subarray(0, at) };
}

/** What of `page` ({from, bytes}) lies at `offset` and after; null where nothing does. */
export function fromOffset(page, offset) {
  const skip = offset - page.from;
  if (skip >= page.bytes.length) return null;
  return skip <= 0 ? page : { from: offset, bytes: page.bytes.subarray(skip) };
}

export class Window {
  constructor() {
    this.pages = [];
  }

  get from() {
    return this.pages.length ? this.pages[0].from : 0;
  }

  get end() {
    const last = this.pages.at(-1);
    return last ? last.from + last.bytes.length : 0;
  }

  /** Puts a page before the others; what is too much falls off the end. */
  prepend(page) {
    this.pages.unshift(page);
    this.pages.length = Math.min(this.pages.length, PAGES);
  }

  /** Puts a page behind the others; what is too much falls off the start. */
  append(page) {
    this.pages.push(page);
    if (this.pages.length > PAGES) this.pages.shift();
  }

  replace(page) {
    this.pages = [page];
  }

  /** The bytes before and from `offset` on, each as a list of pieces. */
  splitAt(offset) {
    const before = [];
    const after = [];
    for (const page of this.pages) {
      const at = Math.min(Math.max(0, offset - page.from), page.bytes.length);
      if (at > 0) before.push(page.bytes.subarray(0, at));
      if (at < page.bytes.length) after.push(page.bytes.subarray(at));
    }
    return [before, after];
  }
}
