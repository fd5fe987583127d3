// Search: in what the terminal holds, as one types; and on request in everything that is kept.

import { ask, Refused } from "./api.js";
import { byId } from "./page.js";

const LIMIT = 50;
const PAUSE = 120; // ms
const SHOWN = 300; // characters of a line

export class Search {
  /** `screen()`: the {terminal, search} in view. `reach()`: {base, serverId, token}. `goTo(offset)`. */
  constructor({ theme, screen, reach, goTo, focusBack }) {
    Object.assign(this, { theme, screen, reach, goTo, focusBack });
    this.bar = byId("search-bar");
    this.text = byId("search-text");
    this.watched = null;
    this.typing = 0;
    this.asked = 0; // counted on at each question: an answer to an earlier one is not listed
    byId("open-search").addEventListener("click", () => (this.isOpen ? this.close() : this.open()));
    byId("search-close").addEventListener("click", () => this.close());
    byId("search-previous").addEventListener("click", () => this.find(-1));
    byId("search-next").addEventListener("click", () => this.find(1));
    byId("search-all").addEventListener("click", () => this.all());
    byId("search-more").addEventListener("click", () => this.all(this.end));
    for (const id of ["search-case", "search-regex"]) byId(id).addEventListener("click", (event) => this.toggle(event));
    this.text.addEventListener("input", () => this.soon());
    this.bar.addEventListener("submit", (event) => {
      event.preventDefault();
      this.find(-1);
    });
    this.bar.addEventListener("keydown", (event) => this.key(event));
    byId("search-results").addEventListener("keydown", (event) => event.key === "Escape" && this.close());
  }

  get isOpen() {
    return !this.bar.hidden;
  }

  open() {
    this.bar.hidden = false;
    byId("open-search").setAttribute("aria-expanded", "true");
    const selected = this.screen().terminal.getSelection();
    if (selected && !selected.includes("\n") && selected.length < 200) this.text.value = selected;
    this.text.focus();
    this.text.select();
    if (this.text.value) this.find(-1, true);
  }

  close() {
    this.bar.hidden = byId("search-results").hidden = true;
    byId("open-search").setAttribute("aria-expanded", "false");
    this.screen().search.clearDecorations();
    this.focusBack();
  }

  key(event) {
    if (event.key === "Escape") this.close();
    else if (event.key === "Enter" && event.shiftKey && event.target === this.text) {
      event.preventDefault();
      this.find(1);
    }
  }

  toggle(event) {
    const button = event.currentTarget;
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    this.find(-1, true);
  }

  soon() {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => this.find(-1, true), PAUSE);
  }

  get options() {
    const pressed = (id) => byId(id).getAttribute("aria-pressed") === "true";
    return { caseSensitive: pressed("search-case"), regex: pressed("search-regex") };
  }

  /** `direction` -1: the match before (upwards), 1: the one after. */
  find(direction, incremental = false) {
    const { search } = this.screen();
    const text = this.text.value;
    if (this.watched !== search) {
      this.watched = search;
      search.onDidChangeResults((found) => this.count(found));
    }
    if (!text || !readable(text, this.options.regex)) {
      search.clearDecorations();
      byId("search-count").textContent = text ? "not a pattern" : "";
      return;
    }
    const options = { ...this.options, incremental: incremental && direction > 0, decorations: this.marks };
    if (direction < 0) search.findPrevious(text, options);
    else search.findNext(text, options);
  }

  get marks() {
    const [back, active] = this.theme.light ? ["#ffe7a8", "#ffb454"] : ["#4a3f1c", "#8a6a1f"];
    return { matchBackground: back, activeMatchBackground: active, matchOverviewRuler: active, activeMatchColorOverviewRuler: active };
  }

  count({ resultIndex, resultCount }) {
    if (!this.isOpen || !this.text.value) return;
    const at = resultIndex >= 0 ? `${resultIndex + 1} of ` : "";
    byId("search-count").textContent = resultCount ? `${at}${resultCount >= 500 ? "500+" : resultCount}` : "none here";
  }

  // ------------------------------------------------------------------ the whole history

  /** The output is another one: what was found in the earlier is not in it. */
  forget() {
    this.asked += 1;
    byId("search-results").hidden = byId("search-more").hidden = true;
    byId("search-list").replaceChildren();
    byId("search-said").textContent = "";
  }

  async all(before = null) {
    const text = this.text.value;
    if (!text) return this.text.focus();
    const { base, serverId, token } = this.reach();
    const asked = (this.asked += 1);
    const said = byId("search-said");
    byId("search-results").hidden = false;
    if (before === null) byId("search-list").replaceChildren();
    said.textContent = "Searching…";
    byId("search-more").hidden = true;
    try {
      const { regex, caseSensitive } = this.options;
      const query = { q: text, regex: regex ? 1 : null, case: caseSensitive ? 1 : null, before, limit: LIMIT };
      const found = await (await ask(base, serverId, "search", query, token)).json();
      if (asked === this.asked) this.list(found, before !== null);
    } catch (error) {
      if (asked !== this.asked) return undefined;
      const missing = error instanceof Refused && error.status === 404 && error.code === "not_found";
      said.textContent = missing ? "This node cannot search its history." : `Not searched: ${error.message}`;
    }
    return undefined;
  }

  list({ matches, more, before }, further) {
    const list = byId("search-list");
    for (const match of matches) list.append(this.row(match));
    const count = list.childElementCount;
    const counted = count === 1 ? "1 match" : `${count} matches`;
    byId("search-said").textContent = count ? `${counted}, newest first${more ? "; older output is not searched yet" : ""}`
      : more ? "No match yet; older output is not searched yet" : "No match in all that is kept";
    this.end = before;
    byId("search-more").hidden = !more;
    if (further && matches.length) list.children[count - matches.length].querySelector("button").focus();
  }

  row({ offset, line, timestamp }) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.offset = String(offset);
    if (timestamp) {
      const time = document.createElement("time");
      time.textContent = new Date(timestamp * 1000).toLocaleString();
      button.append(time);
    }
    button.append(String(line).slice(0, SHOWN));
    button.addEventListener("click", () => this.goTo(offset));
    item.append(button);
    return item;
  }
}

function readable(text, regex) {
  if (!regex) return true;
  try {
    return Boolean(new RegExp(text));
  } catch {
    return false;
  }
}
