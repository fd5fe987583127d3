// Light and dark: of the page, and of the terminal.

const DARK = {
  background: "#0f1319", foreground: "#dde3ec", cursor: "#6cb6ff", cursorAccent: "#0f1319",
  selectionBackground: "#2f4a68", selectionInactiveBackground: "#34506f",
  black: "#3a4352", red: "#ff8b82", green: "#79d392", yellow: "#e5c07b",
  blue: "#79b8ff", magenta: "#d2a8ff", cyan: "#6fd3d8", white: "#c9d1dc",
  brightBlack: "#8391a5", brightRed: "#ffa69e", brightGreen: "#9be3ac", brightYellow: "#f4d999",
  brightBlue: "#a5d0ff", brightMagenta: "#e2c5ff", brightCyan: "#98e4e8", brightWhite: "#f4f7fb",
  scrollbarSliderBackground: "#5f6c8066", scrollbarSliderHoverBackground: "#5f6c80aa", scrollbarSliderActiveBackground: "#5f6c80dd",
};

const LIGHT = {
  background: "#f4f6f9", foreground: "#1b232e", cursor: "#0f62b8", cursorAccent: "#ffffff",
  selectionBackground: "#bcd8f5", selectionInactiveBackground: "#b4d3f2",
  black: "#1b232e", red: "#b3261e", green: "#13723d", yellow: "#7d5200",
  blue: "#0f5cad", magenta: "#7a3bb0", cyan: "#0b6b75", white: "#4b5766",
  brightBlack: "#566273", brightRed: "#c4352c", brightGreen: "#1a7f47", brightYellow: "#8a5c00",
  brightBlue: "#1a6dc4", brightMagenta: "#8c4cc4", brightCyan: "#12747f", brightWhite: "#1b232e",
  scrollbarSliderBackground: "#7d899955", scrollbarSliderHoverBackground: "#7d899999", scrollbarSliderActiveBackground: "#7d8999cc",
};

export class Theme {
  constructor(settings) {
    this.settings = settings;
    this.listeners = [];
    this.system = matchMedia("(prefers-color-scheme: light)");
    this.system.addEventListener("change", () => this.apply());
    settings.onChange((name) => name === "theme" && this.apply());
    this.apply();
  }

  get light() {
    const chosen = this.settings.get("theme");
    return chosen === "system" ? this.system.matches : chosen === "light";
  }

  /** xterm's colours. */
  get colours() {
    return this.light ? LIGHT : DARK;
  }

  onChange(listener) {
    this.listeners.push(listener);
  }

  apply() {
    document.documentElement.dataset.theme = this.light ? "light" : "dark";
    this.listeners.forEach((listener) => listener(this.colours));
  }
}
