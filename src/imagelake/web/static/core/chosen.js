// The images that somebody has chosen, by id, in any view; tagging and exporting act on them.

const ids = new Set();
const listeners = new Set();

export const chosen = () => [...ids];
export const isChosen = (id) => ids.has(id);

/** Choose, or no longer. */
export function choose(some, on = true) {
  for (const id of some) on ? ids.add(id) : ids.delete(id);
  for (const listener of listeners) listener();
}

export function chooseNone() {
  ids.clear();
  for (const listener of listeners) listener();
}

export function onChosen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
