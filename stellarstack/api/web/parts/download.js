// Takes the whole output home, and copies what is seen.

import { ask, Refused } from "./api.js";
import { byId, tell } from "./page.js";

const FORMATS = { text: "txt", asciinema: "cast" };

export class Download {
  /** `screen()`: the {terminal} in view. `reach()`: {base, serverId, token}. */
  constructor({ screen, reach }) {
    this.screen = screen;
    this.reach = reach;
    byId("download-text").addEventListener("click", () => this.take("text"));
    byId("download-cast").addEventListener("click", () => this.take("asciinema"));
    byId("copy-screen").addEventListener("click", () => this.copy());
  }

  async take(format) {
    byId("download-menu").hidePopover();
    const { base, serverId, token } = this.reach();
    tell("Preparing the download…", { seconds: 0 });
    try {
      const answer = await ask(base, serverId, "download", { format }, token);
      offer(await answer.blob(), `${serverId}-console.${FORMATS[format]}`);
      tell("Downloaded.");
    } catch (error) {
      const missing = error instanceof Refused && error.status === 404 && error.code === "not_found";
      tell(missing ? "This node offers no download of its console." : `Not downloaded: ${error.message}`, { kind: "bad" });
    }
  }

  async copy() {
    byId("download-menu").hidePopover();
    const { terminal } = this.screen();
    const text = terminal.getSelection() || visibleText(terminal);
    try {
      await navigator.clipboard.writeText(text);
      tell("Copied.");
    } catch {
      tell("The browser did not allow copying here. Select the text and press Ctrl+C.", { kind: "warn" });
    }
  }
}

function visibleText(terminal) {
  const buffer = terminal.buffer.active;
  const lines = [];
  for (let row = 0; row < terminal.rows; row += 1) {
    const line = buffer.getLine(buffer.viewportY + row);
    if (!line) continue;
    if (line.isWrapped && lines.length) lines.push(lines.pop() + line.translateToString(true));
    else lines.push(line.translateToString(true));
  }
  return lines.join("\n").trimEnd();
}

function offer(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
