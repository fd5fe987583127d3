// Tokens: from the address, from the panel, from a person. They live in this page's memory and in no storage: whoever
// reloads after that needs a fresh link, and whoever finds the browser finds nothing.

import { readToken, tokenIn } from "../core/token.js";
import { Embed } from "./embed.js";
import { byId, tell } from "./page.js";

const PANEL_WITHIN = 4000; // ms that a panel has for its answer before a person is asked
const PANEL_AGAIN = 20000; // ms before it is asked again: what it gave last may be what was refused

export class Access {
  /** `use(token, claims)` is called with each new token. */
  constructor(use) {
    this.use = use;
    this.claims = null;
    this.waiting = 0;
    this.asked = -Infinity;
    this.embed = new Embed((token) => this.take(token));
    byId("token-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.paste();
    });
    addEventListener("hashchange", () => this.fromAddress());
  }

  async begin(base) {
    const found = this.fromAddress();
    await this.embed.begin(base);
    if (!found) this.want("Open the link that your panel gave you, or paste it here. stellarctl token mint --link makes one.", "Open a console");
  }

  /** Takes the token out of the address, and out of the history at once. */
  fromAddress() {
    const token = tokenIn(location.hash);
    if (location.hash) history.replaceState(null, "", location.pathname + location.search);
    return token !== null && this.take(token);
  }

  take(token) {
    const claims = readToken(token);
    if (!claims) return false;
    clearTimeout(this.waiting);
    this.claims = claims;
    this.hide();
    this.use(token, claims);
    return true;
  }

  /** A token is needed now: the panel is asked, and where it is silent a person. */
  want(why, title = "Access has ended") {
    clearTimeout(this.waiting);
    const ask = () => this.show(title, why);
    if (this.askPanel(0)) this.waiting = setTimeout(ask, PANEL_WITHIN);
    else ask();
  }

  /** False where there is no panel, or it was asked just now. */
  askPanel(expiresIn) {
    const now = performance.now();
    if (now - this.asked < PANEL_AGAIN) return false;
    if (!this.embed.ask(this.claims?.serverId ?? null, expiresIn)) return false;
    this.asked = now;
    return true;
  }

  /** A token will be needed in `seconds`. */
  wantSoon(seconds) {
    clearTimeout(this.waiting);
    const ask = () => {
      this.show("Access ends soon", "Paste a fresh link to stay; what you see goes on without a break.");
      byId("token-use").textContent = "Stay";
    };
    if (this.askPanel(seconds)) this.waiting = setTimeout(ask, PANEL_WITHIN);
    else ask();
  }

  show(title, why) {
    byId("token-title").textContent = title;
    byId("token-why").textContent = why;
    byId("token-use").textContent = "Open";
    byId("token-panel").hidden = false;
    if (window.parent === window && document.activeElement === document.body) byId("token-field").focus();
  }

  hide() {
    clearTimeout(this.waiting);
    byId("token-panel").hidden = true;
    byId("token-field").value = "";
    byId("token-field").removeAttribute("aria-invalid");
  }

  paste() {
    const token = tokenIn(byId("token-field").value);
    if (token && this.take(token)) return;
    byId("token-field").setAttribute("aria-invalid", "true");
    tell("That is neither a console link nor a token.", { kind: "warn" });
  }
}
