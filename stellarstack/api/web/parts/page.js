// The few things every part needs of the page: elements by id, a message to people, a question.

export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

let fading = 0;

/** Tells people something, politely; `kind` is "", "warn" or "bad". It stays for `seconds`, 0: until it is dismissed. */
export function tell(text, { kind = "", seconds = 8 } = {}) {
  const place = byId("notice-place");
  clearTimeout(fading);
  place.className = kind;
  byId("notice").textContent = text;
  byId("notice-close").hidden = !text;
  if (text && seconds) fading = setTimeout(() => tell(""), seconds * 1000);
}

byId("notice-close").addEventListener("click", () => tell(""));

/** Asks; true where the answer is yes. Esc and Cancel are no. */
export function confirmed({ title, text, yes, grave = false }) {
  const dialog = byId("confirm");
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  byId("confirm-yes").textContent = yes;
  byId("confirm-yes").classList.toggle("grave", grave);
  dialog.returnValue = "no";
  dialog.showModal();
  byId(grave ? "confirm-no" : "confirm-yes").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
