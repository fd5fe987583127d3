// The figures of the last five minutes, and how they are said and drawn. No DOM, no clock.

export const SPAN = 300; // seconds
const UNITS = ["B", "KB", "MB", "GB", "TB"];

export class Series {
  constructor(span = SPAN) {
    this.span = span;
    this.points = []; // [time, value], in order of time
  }

  add(time, value) {
    if (!Number.isFinite(value)) return;
    this.points.push([time, value]);
    while (this.points.length && this.points[0][0] < time - this.span) this.points.shift();
  }

  /** A break: the line is not drawn over it. */
  breakOff(time) {
    if (this.points.length && this.points.at(-1)[1] !== null) this.points.push([time, null]);
  }

  get values() {
    return this.points.map(([, value]) => value).filter((value) => value !== null);
  }

  get last() {
    return this.values.at(-1);
  }

  /** {least, most} or null where nothing was measured. */
  bounds() {
    const found = this.values;
    return found.length ? { least: Math.min(...found), most: Math.max(...found) } : null;
  }

  /** Paths `line` and `area` in a box 300 wide (one a second) and 100 high; `top` is the value at its upper edge. */
  paths(now, top) {
    const scale = top > 0 ? 96 / top : 0;
    let line = "";
    let area = "";
    let run = [];
    const close = () => {
      if (!run.length) return;
      const steps = run.map(([x, y]) => `${x} ${y}`).join("L");
      line += `M${steps}`;
      area += `M${run[0][0]} 100L${steps}L${run.at(-1)[0]} 100Z`;
      run = [];
    };
    for (const [time, value] of this.points) {
      if (value === null) close();
      else {
        const x = (300 * (1 - (now - time) / this.span)).toFixed(1);
        run.push([x, (100 - Math.min(100, value * scale)).toFixed(1)]);
      }
    }
    close();
    return { line, area };
  }
}

/** Bytes a second out of a counter that may begin anew. */
export class Rate {
  constructor() {
    this.before = null;
  }

  /** The rate since the last call; null the first time and after a new beginning. */
  of(time, count) {
    const before = this.before;
    this.before = Number.isFinite(count) ? [time, count] : null;
    if (!before || !this.before || count < before[1] || time <= before[0]) return null;
    return (count - before[1]) / (time - before[0]);
  }
}

/** "1.4 GB": three digits at most. */
export function bytes(count) {
  let value = Math.max(0, count);
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

export function percent(value) {
  return `${value < 9.95 ? value.toFixed(1) : value.toFixed(0)} %`;
}

/** "3 d 4 h", "5 min 20 s": two units. */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const at = Math.max(0, parts.findIndex(([size]) => whole >= size));
  if (whole < 60) return `${whole} s`;
  const [size, unit] = parts[at];
  const [small, smallUnit] = parts[at + 1];
  const rest = Math.floor((whole % size) / small);
  return rest ? `${Math.floor(whole / size)} ${unit} ${rest} ${smallUnit}` : `${Math.floor(whole / size)} ${unit}`;
}
