// What a console token says of itself. Nothing here proves it: that is the daemon's affair. No DOM.

const PREFIX = "strk_console_";
const SHAPE = /^(?:strk_console_)?[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;
const CAN_READ = ["console.read", "stats.read"];
const LONGEST = 16384;

/** The token in a link's fragment (`#token=…`), in a whole link or bare; null where there is none. */
export function tokenIn(text) {
  const found = String(text).trim();
  const after = found.includes("#") ? found.slice(found.indexOf("#") + 1) : found;
  const named = new URLSearchParams(after).get("token");
  const token = (named ?? after).trim();
  return token.length <= LONGEST && SHAPE.test(token) ? token : null;
}

/** `{serverId, userId, userName, expiresAt, permissions}` as its payload says; null where it cannot be read. */
export function readToken(token) {
  try {
    const payload = token.replace(PREFIX, "").split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(payload), (letter) => letter.charCodeAt(0));
    const body = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof body.serverId !== "string") return null;
    return {
      serverId: body.serverId,
      userId: typeof body.sub === "string" ? body.sub : "",
      userName: typeof body.metadata?.username === "string" ? body.metadata.username : null,
      expiresAt: typeof body.exp === "number" ? body.exp : 0,
      permissions: permissionsOf(body.permissions),
    };
  } catch {
    return null;
  }
}

/** The names that a `permissions` claim allows, in either of its shapes. */
export function permissionsOf(claim) {
  if (Array.isArray(claim)) return new Set(claim.filter((name) => typeof name === "string"));
  const found = new Set();
  if (claim?.canRead === true || claim?.canWrite === true) CAN_READ.forEach((name) => found.add(name));
  if (claim?.canWrite === true) found.add("console.write");
  return found;
}
