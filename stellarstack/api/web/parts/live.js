// The live terminal: everything as it comes, its newest lines in memory, and which byte stands where.

import { Backlog } from "../core/backlog.js";
import { noteLine, runKey, runOf, runText, weave } from "../core/runs.js";
import { bytes as sized } from "../core/series.js";
import { answersOnlyWhen } from "./guard.js";
import { makeTerminal, scrollByTouch } from "./terminal.js";

const SCROLLBACK = 20000; // lines
const PIECE = 16384; // bytes written at once, and between two marks
const NEWLINE = 10;
const RESIZE_AFTER = 150; // ms of quiet

export class Live {
  /** `told`: resize(cols, rows), key(text), wantsOlder(), scrolled(atTop, atEnd), fullScreen(on). */
  constructor(place, { settings, theme, told }) {
    this.place = place;
    this.told = told;
    Object.assign(this, makeTerminal(place, { settings, theme, scrollback: SCROLLBACK }));
    this.runs = []; // yet to be told
    this.known = new Set(); // keys of those told
    this.fresh = true; // whether the last line written is ended
    this.marks = []; // {marker, offset}: where which byte stands
    this.backlog = new Backlog();
    this.replayEnd = 0;
    this.answers = false;
    this.resizing = 0;
    place.dataset.renderer = "dom";
    answersOnlyWhen(this.terminal, () => this.answers && this.written >= this.replayEnd && document.hasFocus());
    this.written = 0;
    this.listen();
    new ResizeObserver(() => this.fitSoon()).observe(place);
    settings.onChange((name) => name === "fontSize" && this.fitSoon());
  }

  listen() {
    const { terminal, told } = this;
    terminal.onData((text) => told.key(text));
    terminal.onBinary((text) => told.key(text));
    terminal.onScroll(() => this.tellScroll());
    terminal.buffer.onBufferChange((buffer) => told.fullScreen(buffer.type === "alternate"));
    terminal.attachCustomWheelEventHandler((event) => {
      if (event.deltaY < 0 && this.atTop) told.wantsOlder();
      setTimeout(() => this.tellScroll(), 0);
      return true;
    });
    scrollByTouch(this.place, terminal, () => told.wantsOlder());
  }

  get atTop() {
    const buffer = this.terminal.buffer.active;
    return buffer.type === "normal" && buffer.viewportY === 0;
  }

  get atEnd() {
    const buffer = this.terminal.buffer.active;
    return buffer.viewportY >= buffer.baseY;
  }

  tellScroll() {
    this.told.scrolled(this.atTop, this.atEnd);
  }

  // ------------------------------------------------------------------ output

  /** Output beginning at byte `offset`. Where xterm.js cannot keep up, some is passed over and told; the newest is not. */
  write(bytes, offset) {
    if (this.backlog.admits(bytes, offset)) this.put(bytes, offset);
  }

  /** It has kept up again: the end of what waited is shown. */
  release({ kept, passed }) {
    if (passed) this.note(`${sized(passed)} passed by too fast to show; search and older output have it`);
    kept.forEach(({ bytes, offset }) => this.put(bytes, offset));
  }

  put(bytes, offset) {
    let place = offset;
    for (const part of weave(bytes, offset, this.untold(offset, offset + bytes.length))) {
      if (typeof part === "string") this.terminal.write(part);
      else {
        for (let at = 0; at < part.length; at += PIECE) this.writePiece(part.subarray(at, at + PIECE), place + at);
        place += part.length;
      }
      this.fresh = typeof part === "string" || part.at(-1) === NEWLINE;
    }
  }

  writePiece(piece, offset) {
    const { backlog } = this;
    backlog.given(piece.length);
    this.mark(offset);
    this.terminal.write(piece, () => {
      if (backlog !== this.backlog) return; // of another output
      this.written = offset + piece.length;
      this.place.dataset.end = String(this.written);
      const released = backlog.drew(piece.length);
      if (released) this.release(released);
    });
  }

  /** Remembers, once all before it is written, that byte `offset` stands at the cursor. */
  mark(offset) {
    const { backlog } = this;
    this.terminal.write("", () => {
      if (backlog !== this.backlog || this.terminal.buffer.active.type !== "normal") return;
      const last = this.marks.at(-1);
      if (last && offset - last.offset < PIECE / 2 && last.marker.line > 0) return;
      const marker = this.terminal.registerMarker(0);
      if (marker) this.marks.push({ marker, offset });
      while (this.marks.length && this.marks[0].marker.isDisposed) this.marks.shift();
    });
  }

  /** The oldest byte whose row is known: {offset, row}, or null. */
  oldest() {
    const found = this.marks.find(({ marker }) => !marker.isDisposed);
    return found ? { offset: found.offset, row: found.marker.line } : null;
  }

  /** A line of the page's own among the output. */
  note(text) {
    if (this.terminal.buffer.active.type === "normal") this.terminal.write(noteLine(text, this.fresh));
    this.fresh = true;
  }

  /** The runs that began or ended within what `ready` promises; those at `from` are told at once. */
  replay(runs, from, end) {
    this.replayEnd = end;
    this.runs = runs;
    this.write(new Uint8Array(0), from);
  }

  /** A status frame came at byte `offset`; `before`: the status until now. Where a run began or ended, that is told. */
  changed(message, before, offset) {
    const run = runOf(message, before, Date.now() / 1000);
    if (!run || this.known.has(runKey({ ...run, offset }))) return;
    this.known.add(runKey({ ...run, offset }));
    this.note(runText(run));
  }

  /** The runs at [from, to] that have not been told yet; from now on they have. */
  untold(from, to) {
    const found = this.runs.filter((run) => run.offset >= from && run.offset <= to && !this.known.has(runKey(run)));
    found.forEach((run) => this.known.add(runKey(run)));
    this.runs = this.runs.filter((run) => run.offset > to);
    return found;
  }

  clear() {
    this.backlog = new Backlog();
    this.marks.forEach(({ marker }) => marker.dispose());
    this.marks = [];
    this.runs = [];
    this.known.clear();
    this.fresh = true;
    this.written = 0;
    this.terminal.reset();
    this.terminal.write("", () => this.terminal.reset()); // after what still waits to be drawn
  }

  // ------------------------------------------------------------------ size and keys

  fitSoon() {
    clearTimeout(this.resizing);
    this.resizing = setTimeout(() => this.fitNow(), RESIZE_AFTER);
  }

  fitNow() {
    const size = this.fit.proposeDimensions();
    if (!size || !(size.cols > 1) || !(size.rows > 1)) return;
    const cols = Math.min(1000, size.cols);
    const rows = Math.min(1000, size.rows);
    if (cols !== this.terminal.cols || rows !== this.terminal.rows) this.terminal.resize(cols, rows);
    this.told.resize(cols, rows);
  }

  /** Raw: keys go straight to the PTY, and the program's questions to the terminal are answered. */
  setRaw(raw) {
    this.answers = raw;
    this.terminal.options.disableStdin = !raw;
  }
}
