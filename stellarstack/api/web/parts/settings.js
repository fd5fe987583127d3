// The settings dialog, and whoever wants to know of a change.

import { byId } from "./page.js";
import { load, save } from "./storage.js";

const DEFAULTS = { theme: "system", fontSize: 14, reader: false, keepLines: true, figures: true, mode: "line" };

export class Settings {
  constructor() {
    this.values = { ...DEFAULTS, ...load("settings", {}) };
    this.listeners = [];
    byId("open-settings").addEventListener("click", () => this.open());
    for (const input of document.querySelectorAll('input[name="theme"]')) {
      input.addEventListener("change", () => this.set("theme", input.value));
    }
    byId("font-size").addEventListener("change", (event) => {
      const size = Math.round(Number(event.target.value));
      if (size >= 8 && size <= 28) this.set("fontSize", size);
      event.target.value = this.values.fontSize;
    });
    byId("reader-mode").addEventListener("change", (event) => this.set("reader", event.target.checked));
    byId("keep-lines").addEventListener("change", (event) => this.set("keepLines", event.target.checked));
  }

  get(name) {
    return this.values[name];
  }

  set(name, value) {
    this.values[name] = value;
    save("settings", this.values);
    this.listeners.forEach((listener) => listener(name, value));
  }

  /** `listener(name, value)` is called at each change. */
  onChange(listener) {
    this.listeners.push(listener);
  }

  open() {
    byId(`theme-${this.values.theme}`).checked = true;
    byId("font-size").value = this.values.fontSize;
    byId("reader-mode").checked = this.values.reader;
    byId("keep-lines").checked = this.values.keepLines;
    byId("settings").showModal();
  }
}
