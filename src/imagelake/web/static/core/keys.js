// Keys of the keyboard: one table, which the help shows.

const table = new Map();

/** Do something at a key, such as "/", "g b" (one after the other) or "Escape"; not while somebody types. */
export function onKey(key, text, work) {
  table.set(key, { text, work });
  return () => table.delete(key);
}

/** What the help shows: [[key, text]]. */
export const keys = () => [...table].map(([key, { text }]) => [key, text]);

let before = "";
addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  const pair = table.get(`${before} ${event.key}`);
  const found = pair || table.get(event.key);
  before = event.key;
  if (!found) return;
  before = "";
  if (found.work(event) !== false) event.preventDefault();
});

function isTyping(target) {
  if (!(target instanceof Element)) return false;
  const types = ["checkbox", "radio", "button", "range", "file"];
  if (target instanceof HTMLInputElement) return !types.includes(target.type);
  return target.matches("textarea, select, [contenteditable]");
}
