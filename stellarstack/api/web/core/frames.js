// The console's frames (docs/protocol.rst, section 8) between wire and page. No DOM.

export const SUBPROTOCOL = "stellarstack.console.v1.raw";
const encoder = new TextEncoder();

/** The WebSocket's address beside the page at `base`. A token is never part of it. */
export function consoleAddress(base, { since = null, scrollback = null } = {}) {
  const address = new URL("console", base);
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  address.hash = "";
  if (since !== null) address.searchParams.set("since", String(since));
  else if (scrollback !== null) address.searchParams.set("scrollback", String(scrollback));
  return address.href;
}

/** A text frame's message, or null where it is no JSON object with a type. */
export function readFrame(text) {
  try {
    const found = JSON.parse(text);
    return found !== null && typeof found === "object" && typeof found.type === "string" ? found : null;
  } catch {
    return null;
  }
}

/** The bytes of a history page. */
export function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

/** What was typed, cut into frames of at most `most` bytes. */
export function keysOf(text, most = 8192) {
  const bytes = encoder.encode(text);
  const pieces = [];
  for (let at = 0; at < bytes.length; at += most) pieces.push(bytes.subarray(at, at + most));
  return pieces;
}

/** A line as Enter ends it; line ends within become Enter too. */
export function asTyped(line) {
  return `${line.replace(/\r\n|\n/g, "\r")}\r`;
}

/** Where in the output we are: counts bytes, so that `since` resumes at the very next one. */
export class Position {
  constructor() {
    this.end = null;
  }

  /** The session begins at byte `from`. Where that is not where we were, a gap is told next, or other bytes stand there. */
  begin(from) {
    this.end = from;
  }

  /** Output came; answers the offset of its first byte. */
  took(count) {
    const offset = this.end;
    this.end += count;
    return offset;
  }

  /** [from, to) will not come; `to` null: nobody knows how much it is, and counting goes on at `from`. */
  gap(from, to) {
    this.end = to ?? from;
    return to === null ? null : to - from;
  }
}
