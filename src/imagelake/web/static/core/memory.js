// What this browser remembers of somebody's taste: theme and language. Where it may not, nothing is remembered.

/** A value kept before, or "". */
export function remembered(name) {
  try {
    return localStorage.getItem(`imagelake.${name}`) || "";
  } catch {
    return "";
  }
}

/** Keep a value; "" forgets it. */
export function remember(name, value) {
  try {
    if (value) localStorage.setItem(`imagelake.${name}`, value);
    else localStorage.removeItem(`imagelake.${name}`);
  } catch {
    // private windows of some browsers: the choice holds until the page is left
  }
}
