// The HTTP side of a console: search and download. The token goes in a header, never in an address.

export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** `path` below the server's console, e.g. "search". Refused: the daemon said no, and why. */
export async function ask(base, serverId, path, query, token) {
  const address = new URL(`api/v1/servers/${encodeURIComponent(serverId)}/console/${path}`, base);
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined) address.searchParams.set(name, String(value));
  }
  const headers = { Authorization: `Bearer ${token}` };
  const answer = await fetch(address, { headers, cache: "no-store", credentials: "omit", referrerPolicy: "no-referrer" });
  if (answer.ok) return answer;
  let code = "";
  let message = "";
  try {
    ({ code, message } = (await answer.json()).error);
  } catch {
    // no JSON: the status says enough
  }
  throw new Refused(answer.status, code, message || `The node answered ${answer.status}.`);
}
