// Older output: a window of pages over everything that is kept, drawn into a terminal of its own above the live one.
// However far somebody walks, a few pages are in memory. Two terminals take turns, so that nothing flickers: the hidden
// one is filled and scrolled to the same line, then they change places.

import { firstLines, fromOffset, lastLines, PAGE, Window } from "../core/pages.js";
import { runKey, weave } from "../core/runs.js";
import { bytes as sized } from "../core/series.js";
import { linear } from "./guard.js";
import { byId } from "./page.js";
import { makeTerminal, scrollByTouch, scrollTo } from "./terminal.js";

const SCROLLBACK = 60000; // lines: more than a window can hold at 20 columns

export class Past {
  /** `ask(before, limit)`: a page. `newest()`: the newest offset known. `told`: opened(), closed(), failed(). */
  constructor({ settings, theme, ask, newest, told }) {
    this.settings = settings;
    this.theme = theme;
    this.ask = ask;
    this.newestNow = newest;
    this.told = told;
    this.place = byId("past");
    this.bar = byId("past-bar");
    this.window = new Window();
    this.runs = new Map(); // by key; the daemon knows few
    this.first = 0;
    this.front = this.back = null;
    this.loading = false;
    this.visit = 0; // counted on at each close: what is still being loaded or drawn for an earlier one is not shown
    byId("past-live").addEventListener("click", () => this.close());
    byId("past-start").addEventListener("click", () => this.goTo(this.first));
    byId("past-position").addEventListener("change", (event) => {
      const part = Number(event.target.value) / 1000;
      if (part >= 1) this.close();
      else this.goTo(Math.round(this.first + (this.newest - this.first) * part));
    });
    new ResizeObserver(() => this.refit()).observe(this.place);
  }

  get newest() {
    return Math.max(this.newestNow() ?? 0, this.window.end);
  }

  get isOpen() {
    return !this.place.hidden;
  }

  // ------------------------------------------------------------------ open and close

  /**
   * Shows what stands before `offset`; `above`: how many rows before its row are at the top of the view;
   * `select`: its row is marked.
   */
  async goTo(offset, above = 0, { select = false } = {}) {
    if (this.loading) return;
    await this.loadWhile(async () => {
      const page = await this.page(offset + PAGE / 2);
      this.window.replace(lastLines(page, { whole: page.from <= this.first, most: 100000 }));
      const row = await this.draw(Math.max(offset, this.window.from), (found) => found - above);
      if (select) this.front.terminal.selectLines(row, row);
    });
    if (this.window.end - this.window.from < PAGE / 2) await this.extend("older");
  }

  close() {
    if (!this.isOpen) return;
    this.visit += 1;
    this.place.hidden = this.bar.hidden = true;
    for (const side of [this.front, this.back]) {
      side?.terminal.dispose();
      side?.element.remove();
    }
    this.front = this.back = null;
    this.window = new Window();
    this.told.closed();
  }

  /** The output is another one: nothing of what was known holds. */
  forget() {
    this.visit += 1;
    this.close();
    this.runs.clear();
    this.first = 0;
  }

  async loadWhile(load) {
    const { visit } = this;
    this.loading = true;
    this.place.setAttribute("aria-busy", "true");
    try {
      await load();
    } catch {
      if (visit === this.visit) this.told.failed();
    } finally {
      this.loading = false;
      this.place.removeAttribute("aria-busy");
    }
  }

  async page(before) {
    const page = await this.ask(Math.max(0, before), PAGE);
    this.first = page.first;
    page.runs.forEach((run) => this.runs.set(runKey(run), run));
    return page;
  }

  // ------------------------------------------------------------------ walking

  /** `older` or `newer`: one more page at that side, the view where it was. */
  async extend(side) {
    if (this.loading || !this.isOpen) return;
    if (side === "older" && this.window.from > this.first) await this.loadWhile(() => this.older());
    else if (side === "newer") await this.loadWhile(() => this.newer());
  }

  async older() {
    const seam = this.window.from;
    const page = await this.page(seam);
    if (page.end !== seam || !page.bytes.length) return;
    this.window.prepend(lastLines(page, { whole: page.from <= page.first }));
    const top = this.front.terminal.buffer.active.viewportY;
    await this.draw(seam, (row) => row + top);
  }

  async newer() {
    const seam = this.window.end;
    const page = await this.page(seam + PAGE);
    const rest = page.from > seam ? page : fromOffset(page, seam);
    const complete = page.end < seam + PAGE;
    if (!rest) return this.close(); // nothing newer: the live terminal has it
    const lines = firstLines(rest, { whole: complete });
    if (rest.from > seam) this.window.replace(lines);
    else this.window.append(lines);
    const behind = this.rowOfEnd - this.front.terminal.buffer.active.viewportY;
    await this.draw(seam, (row) => row - behind);
    return undefined;
  }

  /** At the last row and still downwards: what is newer, or back to live. */
  atEdge(direction) {
    const buffer = this.front?.terminal.buffer.active;
    if (!buffer) return;
    if (direction < 0 && buffer.viewportY < this.front.terminal.rows) this.extend("older");
    if (direction > 0 && buffer.viewportY >= buffer.baseY - this.front.terminal.rows / 2) this.extend("newer");
    this.tellWhere();
  }

  // ------------------------------------------------------------------ drawing

  /** Fills the hidden terminal, scrolls it to `place(row of byte seam)`, and shows it; answers that row. */
  async draw(seam, place) {
    const { visit, isOpen } = this;
    this.place.hidden = this.bar.hidden = false;
    const side = (this.back ??= this.makeSide());
    side.fit.fit();
    side.terminal.reset();
    const [before, after] = this.window.splitAt(seam);
    const row = await rowAfter(side.terminal, this.woven(before, this.window.from, seam));
    this.rowOfEnd = await rowAfter(side.terminal, this.woven(after, seam, Infinity));
    await scrollTo(side.terminal, Math.round(place(row)));
    if (visit !== this.visit) throw new Error("closed meanwhile");
    const focused = this.front?.element.contains(document.activeElement);
    [this.front, this.back] = [side, this.front];
    side.element.classList.remove("behind");
    if (focused) side.terminal.focus();
    this.back?.element.classList.add("behind");
    this.place.dataset.from = String(this.window.from);
    this.place.dataset.to = String(this.window.end);
    this.tellWhere();
    if (!isOpen) this.told.opened();
    return row;
  }

  /** The pieces, the first at byte `from`, with the runs before byte `to` among them. */
  woven(pieces, from, to) {
    let at = from;
    return pieces.flatMap((piece) => {
      const end = at + piece.length;
      const runs = [...this.runs.values()].filter(({ offset }) => offset >= at && offset < end && offset < to);
      const found = weave(piece, at, runs);
      at = end;
      return found;
    });
  }

  makeSide() {
    const element = document.createElement("div");
    element.className = "behind";
    this.place.append(element);
    const side = makeTerminal(element, {
      settings: this.settings, theme: this.theme, scrollback: SCROLLBACK, cursor: false,
    });
    linear(side.terminal);
    side.terminal.attachCustomWheelEventHandler((event) => {
      setTimeout(() => side === this.front && this.atEdge(event.deltaY), 0);
      return true;
    });
    side.terminal.attachCustomKeyEventHandler((event) => this.key(event));
    side.terminal.onScroll(() => side === this.front && this.tellWhere());
    scrollByTouch(element, side.terminal, () => this.atEdge(-1));
    element.addEventListener("touchend", () => this.atEdge(1), { passive: true });
    return { ...side, element };
  }

  /** Page Up, Page Down, Home and End walk; Esc goes back to live. Other keys are the browser's: Tab leaves, Ctrl+C copies. */
  key(event) {
    if (event.type !== "keydown" || !this.front) return true;
    const { terminal } = this.front;
    const walk = {
      PageUp: () => terminal.scrollPages(-1), PageDown: () => terminal.scrollPages(1),
      ArrowUp: () => terminal.scrollLines(-1), ArrowDown: () => terminal.scrollLines(1),
      Home: () => this.goTo(this.first), End: () => this.close(), Escape: () => this.close(),
    }[event.key];
    if (!walk || event.ctrlKey || event.altKey || event.metaKey) return false;
    event.preventDefault();
    walk();
    if (event.key.startsWith("Page") || event.key.startsWith("Arrow")) {
      this.atEdge(event.key.endsWith("Up") ? -1 : 1);
    }
    return false;
  }

  refit() {
    if (!this.isOpen || !this.front || this.loading) return;
    this.front.fit.fit();
  }

  tellWhere() {
    if (!this.front) return;
    const { viewportY } = this.front.terminal.buffer.active;
    const share = this.rowOfEnd ? Math.min(1, viewportY / this.rowOfEnd) : 0;
    const at = this.window.from + (this.window.end - this.window.from) * share;
    const whole = Math.max(1, this.newest - this.first);
    byId("past-position").value = Math.round(((at - this.first) / whole) * 1000);
    const start = this.window.from <= this.first && viewportY === 0;
    const text = start ? "The beginning of what is kept" : `${sized(Math.max(0, this.newest - at))} before the newest`;
    byId("past-where").textContent = text;
    byId("past-position").setAttribute("aria-valuetext", text);
  }
}

/** Writes the pieces; the row where the cursor stands then. */
function rowAfter(terminal, pieces) {
  pieces.forEach((piece) => terminal.write(piece));
  return new Promise((resolve) => {
    terminal.write("", () => resolve(terminal.buffer.active.baseY + terminal.buffer.active.cursorY));
  });
}
