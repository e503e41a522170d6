// Asks for what the page shows first, while its scripts still load; core/server.js takes the answers.

const parameters = new URLSearchParams(location.search);
const asked = (globalThis.imagelakeEarly = new Map());

function ask(path, query = null) {
  const whole = query ? `${path}?${query}` : path;
  const answer = fetch(`page/api/${whole}`, { headers: { "X-Imagelake-Page": "1" }, credentials: "same-origin" });
  answer.catch(() => {}); // whoever takes it is told
  asked.set(whole, answer);
}

ask("about");
if (["browse", null].includes(parameters.get("view"))) {
  const kept = new URLSearchParams();
  for (const [name, value] of parameters) {
    if (["q", "where", "sort"].includes(name) || name.startsWith("f.")) kept.append(name, value);
  }
  ask("browse/layout", `${kept}` || null);
  ask("facets", `${kept}` || null);
  kept.set("offset", 0);
  kept.set("limit", 120);
  ask("browse", kept);
}
setTimeout(() => asked.clear(), 20000); // nobody took it
