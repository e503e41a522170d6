// Keys of the keyboard: one table, which the help shows.

const table = [];

/**
 * Do something at a key, such as "/", "g b" (one after the other) or "Escape"; not while somebody types. Several may want
 * the same key: the last one comes first, and one whose `work` gives false lets the next have it.
 */
export function onKey(key, text, work) {
  const mine = { key, text, work };
  table.unshift(mine);
  return () => table.splice(table.indexOf(mine), 1);
}

/** What the help shows: [[key, text]]. */
export function keys() {
  const shown = new Map([...table].reverse().map(({ key, text }) => [`${key} ${text}`, [key, text]]));
  return [...shown.values()];
}

let before = "";
addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  const pair = table.filter((each) => each.key === `${before} ${event.key}`);
  const single = table.filter((each) => each.key === event.key);
  before = event.key;
  for (const each of [...pair, ...single]) {
    if (each.work(event) === false) continue;
    before = "";
    event.preventDefault();
    return;
  }
});

/** Whether keys that are pressed now are text for an element. */
export function isTyping(target) {
  if (!(target instanceof Element)) return false;
  const types = ["checkbox", "radio", "button", "range", "file"];
  if (target instanceof HTMLInputElement) return !types.includes(target.type);
  return target.matches("textarea, select, [contenteditable]");
}
