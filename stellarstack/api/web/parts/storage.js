// What this browser remembers. In a frame it may not be allowed to: then it is forgotten with the page.
// Tokens are never given to it.

const memory = new Map();

export function load(key, otherwise) {
  try {
    const found = localStorage.getItem(`stellarstack.${key}`);
    return found === null ? (memory.get(key) ?? otherwise) : JSON.parse(found);
  } catch {
    return memory.get(key) ?? otherwise;
  }
}

export function save(key, value) {
  memory.set(key, value);
  try {
    localStorage.setItem(`stellarstack.${key}`, JSON.stringify(value));
  } catch {
    // blocked or full: the page's own memory has it
  }
}

export function forget(key) {
  memory.delete(key);
  try {
    localStorage.removeItem(`stellarstack.${key}`);
  } catch {
    // blocked
  }
}
