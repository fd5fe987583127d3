// Loads the page's modules. Where one of them does not arrive (a phone between two masts) the page is loaded again, a few
// times: until app.js runs, the token is still in the address.

const MOST = 4;
const tries = history.state?.tries ?? 0;

import("./app.js").catch((fault) => {
  if (tries < MOST) {
    history.replaceState({ tries: tries + 1 }, "");
    setTimeout(() => location.reload(), 500 * 2 ** tries);
  } else {
    document.getElementById("notice").textContent = "The console could not be loaded. Reload the page to try again.";
    throw fault;
  }
});
