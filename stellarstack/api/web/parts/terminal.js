// One xterm.js terminal as this page wants it: fenced, styled without inline styles, searchable, fitted.

import { FitAddon } from "../vendor/addon-fit.mjs";
import { SearchAddon } from "../vendor/addon-search.mjs";
import { Unicode11Addon } from "../vendor/addon-unicode11.mjs";
import { Terminal } from "../vendor/xterm.mjs";
import { drawable, fence } from "./guard.js";
import { hiddenLinks, plainLinks } from "./links.js";
import "./strict-styles.js"; // before the first terminal

const FONTS = 'ui-monospace, "SF Mono", "Cascadia Mono", "JetBrains Mono", Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace';

/** {terminal, fit, search}, opened in `place`. */
export function makeTerminal(place, { settings, theme, scrollback, cursor = true }) {
  const terminal = new Terminal({
    allowProposedApi: true, // for Unicode 11 widths and the marks of the search
    cursorBlink: false,
    cursorInactiveStyle: cursor ? "outline" : "none",
    disableStdin: true,
    fontFamily: FONTS,
    fontSize: settings.get("fontSize"),
    lineHeight: 1.2,
    linkHandler: hiddenLinks,
    logLevel: "off",
    minimumContrastRatio: 4.5,
    screenReaderMode: settings.get("reader"),
    scrollback,
    theme: theme.colours,
    windowOptions: {},
  });
  fence(terminal);
  const fit = new FitAddon();
  const search = new SearchAddon({ highlightLimit: 500 });
  terminal.loadAddon(fit);
  terminal.loadAddon(search);
  drawable(terminal, new Unicode11Addon());
  terminal.loadAddon(plainLinks());
  terminal.open(place);
  theme.onChange((colours) => (terminal.options.theme = colours));
  settings.onChange((name, value) => {
    if (name === "fontSize") terminal.options.fontSize = value;
    if (name === "reader") terminal.options.screenReaderMode = value;
  });
  return { terminal, fit, search };
}

/** Scrolls so that `row` is at the top; waits until the view has the buffer's size. */
export async function scrollTo(terminal, row) {
  const buffer = terminal.buffer.active;
  const wanted = () => Math.max(0, Math.min(row, buffer.baseY));
  for (let tries = 0; tries < 12; tries += 1) {
    terminal.scrollToLine(wanted());
    if (buffer.viewportY === wanted() && tries > 1) return;
    await new Promise((resolve) => requestAnimationFrame(resolve));
  }
}

/** Touch moves the output, as it moves a page. */
export function scrollByTouch(place, terminal, reachedTop) {
  let at = null;
  let rest = 0;
  place.addEventListener("touchstart", (event) => {
    at = event.touches.length === 1 ? event.touches[0].clientY : null;
    rest = 0;
  }, { passive: true });
  place.addEventListener("touchmove", (event) => {
    if (at === null || event.touches.length !== 1) return;
    const height = terminal.element.querySelector(".xterm-screen").clientHeight / terminal.rows;
    rest += (at - event.touches[0].clientY) / height;
    at = event.touches[0].clientY;
    const lines = Math.trunc(rest);
    rest -= lines;
    if (lines < 0 && terminal.buffer.active.viewportY === 0) reachedTop?.();
    if (lines) terminal.scrollLines(lines);
    event.preventDefault();
  }, { passive: false });
}
