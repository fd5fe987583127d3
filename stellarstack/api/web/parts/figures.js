// CPU, memory, network and disk of the last five minutes, drawn and said.

import { bytes, percent, Rate, Series } from "../core/series.js";
import { byId } from "./page.js";

const SAY_EVERY = 5; // seconds: a screen reader need not hear of every point

/** How each figure is named, measured and said. `two`: what its second line is. */
const KINDS = {
  cpu: { name: "CPU", say: percent, top: 100, of: "of one core" },
  memory: { name: "Memory", say: bytes },
  network: { name: "Network", say: (value) => `${bytes(value)}/s`, one: "in", two: "out" },
  disk: { name: "Disk", say: (value) => `${bytes(value)}/s`, one: "read", two: "written" },
};

export class Figures {
  constructor(settings) {
    this.settings = settings;
    this.there = false;
    this.begin();
    byId("toggle-figures").addEventListener("click", () => settings.set("figures", !settings.get("figures")));
    settings.onChange((name) => name === "figures" && this.show());
    this.allow(false);
  }

  begin() {
    this.series = {};
    for (const name of Object.keys(KINDS)) this.series[name] = [new Series(), new Series()];
    this.rates = { rx: new Rate(), tx: new Rate(), read: new Rate(), write: new Rate() };
    this.said = -SAY_EVERY;
  }

  /** Whether the token lets us see them (stats.read). */
  allow(there) {
    this.there = there;
    byId("toggle-figures").hidden = !there;
    this.show();
  }

  show() {
    const shown = this.settings.get("figures");
    byId("figures").hidden = !(this.there && shown);
    byId("toggle-figures").setAttribute("aria-pressed", String(shown));
  }

  /** The server or the connection has stopped telling. */
  breakOff(now) {
    Object.values(this.series).flat().forEach((series) => series.breakOff(now));
    Object.values(this.rates).forEach((rate) => (rate.before = null));
  }

  /** The server does not run: there is nothing to tell. */
  empty() {
    for (const name of Object.keys(KINDS)) {
      const box = byId(`figure-${name}`);
      box.querySelector(".value").textContent = "–";
      box.querySelector(".detail").textContent = "";
    }
  }

  /** The figures are another server's from now on. */
  forget() {
    this.begin();
    this.empty();
    for (const [name, { name: title }] of Object.entries(KINDS)) {
      const drawing = byId(`figure-${name}`).querySelector("svg");
      drawing.setAttribute("aria-label", `${title}: nothing measured yet`);
      drawing.querySelectorAll("path").forEach((path) => path.removeAttribute("d"));
    }
  }

  /** `now` in seconds; `metrics` as `stats` brings them. */
  take(metrics, now) {
    const { cpu, memory, network, disk } = this.series;
    cpu[0].add(now, metrics.cpu);
    memory[0].add(now, metrics.memory);
    addRate(network[0], this.rates.rx, now, metrics.networkRx);
    addRate(network[1], this.rates.tx, now, metrics.networkTx);
    addRate(disk[0], this.rates.read, now, metrics.blockRead);
    addRate(disk[1], this.rates.write, now, metrics.blockWrite);
    const limit = metrics.memoryLimit > 0 ? metrics.memoryLimit : 0;
    this.put("cpu", percent(metrics.cpu ?? 0), "of one core", now);
    this.put("memory", bytes(metrics.memory ?? 0), limit ? `of ${bytes(limit)}` : "", now, limit);
    this.put("network", rate(network[0]), `in, ${rate(network[1])} out`, now);
    this.put("disk", bytes(metrics.disk ?? 0), `read ${rate(disk[0])}, written ${rate(disk[1])}`, now);
    if (now - this.said >= SAY_EVERY) this.said = now;
  }

  put(name, value, detail, now, limit = 0) {
    const box = byId(`figure-${name}`);
    box.querySelector(".value").textContent = value;
    box.querySelector(".detail").textContent = detail;
    const [one, two] = this.series[name];
    const most = Math.max(one.bounds()?.most ?? 0, two.bounds()?.most ?? 0);
    const top = limit || Math.max(KINDS[name].top ?? 0, most * 1.1);
    const { line, area } = one.paths(now, top);
    box.querySelector(".trace").setAttribute("d", line);
    box.querySelector(".area").setAttribute("d", area);
    box.querySelector(".second")?.setAttribute("d", two.paths(now, top).line);
    if (now - this.said >= SAY_EVERY) {
      box.querySelector("svg").setAttribute("aria-label", said(name, value, detail, one, two));
    }
  }
}

function addRate(series, counter, now, count) {
  const found = counter.of(now, count);
  if (found !== null) series.add(now, found);
}

function rate(series) {
  return `${bytes(series.last ?? 0)}/s`;
}

/** The picture in words. */
function said(name, value, detail, one, two) {
  const { name: title, say, one: first, two: second } = KINDS[name];
  const range = (series, what) => {
    const bounds = series.bounds();
    return bounds ? `${what ? `${what} ` : ""}between ${say(bounds.least)} and ${say(bounds.most)}` : "";
  };
  const ranges = [range(one, first), second ? range(two, second) : ""].filter(Boolean).join(", ");
  return `${title}: now ${value} ${detail}. In the last 5 minutes ${ranges || "nothing measured"}.`;
}
