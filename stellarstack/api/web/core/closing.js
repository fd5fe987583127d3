// What the end of a connection means (docs/protocol.rst, the table of close codes). No DOM.

/** What to do: `again` connect anew, `slowly` the same with patience, `token` another token is needed, `never`. */
export function meaningOf(code, reason = "") {
  switch (code) {
    case 4410:
      return { then: "token", text: "Your access has run out. Links are good for five minutes: open or paste a fresh one, and the output goes on where you left it." };
    case 4401:
      return { then: "token", text: "The node did not accept this link. It may be damaged, already used, or made for another node." };
    case 4403:
      return { then: "token", text: "This link may not open the console: access was withdrawn, or does not include reading it." };
    case 4404:
      return { then: "token", text: "This server is not on this node, or has been deleted." };
    case 1013:
      return { then: "slowly", text: "Too many people watch this console just now." };
    case 1008:
      if (reason.includes("invalid_request")) return { then: "afresh", text: "The output has begun anew." };
      return { then: "slowly", text: reason.includes("rate") ? "Too much was sent at once." : "The node ended the connection." };
    case 1001:
      return { then: "again", text: "The node is restarting. The game goes on." };
    default:
      return { then: "again", text: "The connection was lost." };
  }
}
