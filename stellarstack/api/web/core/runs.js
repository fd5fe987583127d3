// Where runs of the server began and ended, as lines among its output (docs/protocol.rst, "runs"). No DOM.

const NEWLINE = 10;
const REASONS = { oom: "out of memory", killed: "killed", user: "as ordered", ready_timeout: "it was not ready in time" };

/** "started", "exited with code 0", "crashed (out of memory), exit code 137". */
export function runText({ event, exitCode, reason, at }) {
  const code = Number.isInteger(exitCode) ? exitCode : null;
  const why = REASONS[reason] ? ` (${REASONS[reason]})` : "";
  const what = {
    started: "started",
    exited: `ended${why}${code === null ? "" : `, exit code ${code}`}`,
    crashed: `crashed${why}${code === null ? "" : `, exit code ${code}`}`,
  }[event];
  if (!what) return null;
  return Number.isFinite(at) ? `${what}, ${new Date(at * 1000).toLocaleString()}` : what;
}

/**
 * What a status frame tells of a run, the status until then being `before` and the time `now` (Unix seconds); null: no
 * run began or ended. `starting` comes after a stop that was not obeyed, too; an end has its time (an installation's
 * has none).
 */
export function runOf({ status, at, exitCode, reason }, before, now) {
  if (status === "starting") return ["stopped", "crashed"].includes(before) ? { event: "started", at: now } : null;
  const event = { stopped: "exited", crashed: "crashed" }[status];
  return event && Number.isFinite(at) ? { event, at, exitCode, reason } : null;
}

/** A line of the page's own, in the terminal's language. `fresh`: the cursor stands at the start of a line. */
export function noteLine(text, fresh = false) {
  return `\x1b[0m${fresh ? "" : "\r\n"}\x1b[90m── ${text} ──\x1b[0m\r\n`;
}

/** One key for one event, to tell it once. */
export function runKey({ offset, event }) {
  return `${offset}:${event}`;
}

/** `bytes`, beginning at `from`, in pieces with the lines of the runs among them (strings). */
export function weave(bytes, from, runs) {
  const found = [];
  let at = 0;
  for (const run of [...runs].sort((one, two) => one.offset - two.offset)) {
    const cut = run.offset - from;
    const text = runText(run);
    if (cut < 0 || cut > bytes.length || !text) continue;
    if (cut > at) found.push(bytes.subarray(at, cut));
    at = cut;
    found.push(noteLine(text, cut === 0 || bytes[cut - 1] === NEWLINE));
  }
  if (at < bytes.length) found.push(bytes.subarray(at));
  return found;
}
