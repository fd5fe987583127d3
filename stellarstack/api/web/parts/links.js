// Links in the output. They lead to strangers' pages: asked first, and opened without a way back to this one.

import { WebLinksAddon } from "../vendor/addon-web-links.mjs";
import { confirmed } from "./page.js";

/** Opens `address` after a question that names its host. Anything but http and https is not a link. */
export async function follow(address) {
  let target;
  try {
    target = new URL(address);
  } catch {
    return;
  }
  if (!["http:", "https:"].includes(target.protocol)) return;
  const text = `${target.host}\n\n${target.href.slice(0, 300)}`;
  if (await confirmed({ title: "Open this link?", text, yes: "Open" })) {
    window.open(target.href, "_blank", "noopener,noreferrer");
  }
}

/** Plain addresses in the text. */
export function plainLinks() {
  return new WebLinksAddon((event, address) => {
    event.preventDefault();
    follow(address);
  });
}

/** Links whose text says one thing and whose address another (OSC 8). */
export const hiddenLinks = { activate: (_event, address) => follow(address), allowNonHttpProtocols: false };
