// The address bar holds the whole state of the page, so that a view can be sent to a colleague.

const listeners = new Set();

/** One value of the address. */
export function get(name, otherwise = "") {
  return new URLSearchParams(location.search).get(name) ?? otherwise;
}

/** All parameters, a URLSearchParams of one's own. */
export function all() {
  return new URLSearchParams(location.search);
}

/** What selects images: q, where, f.NAME, sort; as a query string for the server. */
export function selection() {
  const kept = new URLSearchParams();
  for (const [name, value] of all()) {
    if (["q", "where", "sort"].includes(name) || name.startsWith("f.")) kept.append(name, value);
  }
  return kept;
}

/** The address after some changes: a value, a list of values, or null to leave a parameter out. */
export function href(changes) {
  const next = all();
  for (const [name, value] of Object.entries(changes)) {
    next.delete(name);
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "") next.append(name, each);
    }
  }
  const text = next.toString();
  return text ? `?${text}` : location.pathname;
}

/** Go there; `replace` leaves no step for the back button, as while a slider moves. */
export function go(changes, { replace = false } = {}) {
  const next = href(changes);
  if (next === (location.search || location.pathname)) return;
  history[replace ? "replaceState" : "pushState"](null, "", next);
  for (const listener of listeners) listener();
}

/** Be told of each change, also by the back button. */
export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

addEventListener("popstate", () => {
  for (const listener of listeners) listener();
});

// A link inside the page changes the address without loading the page again.
addEventListener("click", (event) => {
  const link = event.target instanceof Element ? event.target.closest("a[href^='?']") : null;
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  if (link.getAttribute("href") !== location.search) {
    history.pushState(null, "", link.getAttribute("href"));
    for (const listener of listeners) listener();
  }
});
