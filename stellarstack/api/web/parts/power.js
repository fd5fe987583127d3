// Start, stop, restart and kill, as far as the token allows, with what becomes of them.

import { byId, confirmed, tell } from "./page.js";

const ACTIONS = ["start", "stop", "restart", "kill"];
const DONE = { start: "Started.", stop: "Stopped.", restart: "Restarted.", kill: "Killed." };
const DOING = { start: "Starting…", stop: "Stopping…", restart: "Restarting…", kill: "Killing…" };
const STEPS = { pulling_image: "Fetching the image", installing: "Installing", creating_container: "Making the container", starting: "Starting" };
const SENSIBLE = {
  running: ["stop", "restart", "kill"],
  starting: ["stop", "restart", "kill"],
  stopping: ["kill"],
  installing: ["kill"],
  stopped: ["start", "restart"],
  crashed: ["start", "restart"],
};

export class Power {
  /** `send(message)`: true where it went out. */
  constructor(send) {
    this.send = send;
    this.allowed = new Set();
    this.status = "unknown";
    this.under = null; // the action under way
    this.reached = false; // whether anybody would hear an order
    for (const action of ACTIONS) byId(`power-${action}`).addEventListener("click", () => this.ask(action));
  }

  allow(permissions) {
    this.allowed = new Set(ACTIONS.filter((action) => permissions.has(`control.${action}`)));
    this.show();
  }

  setStatus(status) {
    this.status = status;
    this.show();
  }

  /** There is a connection. */
  found() {
    this.reached = true;
    this.show();
  }

  /** The connection is gone: nobody will tell how it ended. */
  lost() {
    this.under = null;
    this.reached = false;
    this.show();
  }

  show() {
    byId("power").hidden = this.allowed.size === 0;
    const sensible = SENSIBLE[this.status] ?? ACTIONS;
    for (const action of ACTIONS) {
      const button = byId(`power-${action}`);
      button.hidden = !this.allowed.has(action);
      button.disabled = !this.reached || !sensible.includes(action) || (this.under !== null && action !== "kill");
    }
  }

  async ask(action) {
    if (action === "kill") {
      const text = "It ends at once, without saving. What has not been written to disk is lost.";
      if (!(await confirmed({ title: `Kill ${byId("server-name").textContent}?`, text, yes: "Kill", grave: true }))) return;
    }
    if (!this.send({ type: "power", action })) {
      tell("Not sent: there is no connection just now.", { kind: "warn" });
      return;
    }
    this.under = action;
    this.show();
    tell(DOING[action], { seconds: 0 });
  }

  /** A frame from the daemon; true where it was about power. */
  take(message) {
    if (message.type === "command.ack") return true;
    if (message.type === "deployment.progress") {
      const part = Number.isFinite(message.progress) ? `, ${Math.round(message.progress)} %` : "";
      tell(`${STEPS[message.step] ?? "Working"}${part}…`, { seconds: 0 });
      return true;
    }
    if (message.type === "command.result") {
      this.ended(message);
      return true;
    }
    if (message.type === "error" && message.action) {
      this.ended({ command: `server.${message.action}`, status: "failed", error: message });
      return true;
    }
    return false;
  }

  ended(result) {
    const action = String(result.command ?? "").replace("server.", "") || this.under;
    if (action === this.under || !result.command) this.under = null;
    this.show();
    if (result.status === "succeeded") tell(result.result?.already ? "Nothing to do." : (DONE[action] ?? "Done."));
    else if (result.status === "cancelled") tell("Overtaken by a later order.", { kind: "warn" });
    else tell(result.error?.message ? `Not done: ${result.error.message}` : "Not done.", { kind: "bad", seconds: 20 });
  }
}
