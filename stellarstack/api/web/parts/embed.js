// In a panel's frame: asks the page around it for tokens (docs/embedding.rst). Only origins that daemon.toml names are
// spoken to or listened to, and only the window that holds this frame.

export class Embed {
  /** `gave(token)` is called with what the panel sends. */
  constructor(gave) {
    this.gave = gave;
    this.origins = [];
    this.framed = window.parent !== window;
    addEventListener("message", (event) => this.heard(event));
  }

  /** Reads who may embed this page. */
  async begin(base) {
    if (!this.framed) return;
    try {
      const told = await (await fetch(new URL("web.json", base), { credentials: "omit" })).json();
      this.origins = told.embedders.map((address) => new URL(address).origin);
    } catch {
      this.origins = [];
    }
  }

  get canAsk() {
    return this.framed && this.origins.length > 0;
  }

  /** Asks the panel for a token; false where there is none to ask. */
  ask(serverId, expiresIn) {
    if (!this.canAsk) return false;
    const known = window.location.ancestorOrigins?.[0];
    const message = { type: "stellarstack.token.wanted", serverId, expiresIn };
    this.origins
      .filter((origin) => known === undefined || origin === known)
      .forEach((origin) => window.parent.postMessage(message, origin));
    return true;
  }

  heard(event) {
    if (!this.framed || event.source !== window.parent || !this.origins.includes(event.origin)) return;
    if (event.data?.type === "stellarstack.token" && typeof event.data.token === "string") this.gave(event.data.token);
  }
}
