// The page: its head, and the view that the address names.

import { all, get as parameter, href, onChange } from "./core/address.js";
import { fill, h } from "./core/dom.js";
import { keys, onKey } from "./core/keys.js";
import { get } from "./core/server.js";
import { loadTexts, t } from "./core/texts.js";
import { keepTheme, themeButton } from "./core/theme.js";
import { notice } from "./core/notice.js";

const VIEWS = ["browse", "search", "map", "duplicates", "atlas", "runs"];
const mounted = new Map(); // view -> {section, update}
let known = {}; // what the server told of itself

async function start() {
  keepTheme();
  await loadTexts();
  document.getElementById("skip").textContent = t("core.skip");
  onKey("?", t("core.help"), help);
  for (const [view, key] of [["browse", "b"], ["search", "s"], ["map", "m"], ["duplicates", "d"], ["atlas", "e"], ["runs", "r"]]) {
    onKey(`g ${key}`, t(`core.${view}`), () => document.querySelector(`[data-view="${view}"]`)?.click());
  }
  known = await get("about").catch((error) => ({ error: error.message }));
  onChange(show);
  await show();
}

/** Show the view of the address; views stay as they were while others are shown. */
async function show() {
  const name = [...VIEWS, "picture"].includes(parameter("view")) ? parameter("view") : "browse";
  head(name);
  const main = document.getElementById("main");
  let view = mounted.get(name);
  if (!view) {
    const section = h("section", { class: `view view-${name}`, "aria-label": t(`core.${name}`) });
    view = { section, update: () => {} };
    mounted.set(name, view);
    main.append(section);
    const module = await import(`./views/${name}.js`);
    view.update = module.mount(section, known).update;
  }
  const before = [...mounted.values()].find((each) => !each.section.hidden && each !== view);
  if (before) {
    before.scroll = scrollY;
    before.section.hidden = true;
  }
  const returns = view.section.hidden;
  view.section.hidden = false;
  document.title = `${t(`core.${name}`)} · imagelake`;
  await view.update(all());
  if (returns) scrollTo(0, view.scroll || 0);
  else if (before) scrollTo(0, 0);
}

function head(current) {
  fill(
    document.getElementById("head"),
    h("a", { class: "brand", href: href(home()) }, h("span", { class: "mark", "aria-hidden": "true" }), "imagelake"),
    h(
      "nav",
      { "aria-label": t("core.views") },
      VIEWS.map((name) =>
        h("a", { href: href({ ...home(), view: name, ...kept(name) }), dataset: { view: name }, "aria-current": name === current ? "page" : null }, t(`core.${name}`)),
      ),
    ),
    h("span", { class: "spring" }),
    themeButton(),
    h("button", { class: "quiet", onclick: help, "aria-label": t("core.help"), title: t("core.help") }, "?"),
  );
}

/** The address of a view keeps what selects images, and the language. */
function home() {
  const gone = {};
  for (const name of all().keys()) gone[name] = null;
  return gone;
}

function kept() {
  const found = {};
  for (const name of new Set(all().keys())) {
    if (["q", "where", "sort", "lang"].includes(name) || name.startsWith("f.")) found[name] = all().getAll(name);
  }
  return found;
}

function help() {
  const dialog = h(
    "dialog",
    { class: "sheet", "aria-label": t("core.help"), onclose: () => dialog.remove() },
    h("h2", {}, t("core.help")),
    h("dl", { class: "keys" }, keys().map(([key, text]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, text)])),
    h("form", { method: "dialog" }, h("button", {}, t("core.close"))),
  );
  document.body.append(dialog);
  dialog.showModal();
}

start().catch((error) => notice(error.message));
