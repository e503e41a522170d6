// The head of the page: the views, and what concerns them all. Made once; a change of view marks another link.

import { all, href } from "./address.js";
import { fill, h } from "./dom.js";
import { helpSheet, settingsSheet } from "./sheets.js";
import { t } from "./texts.js";
import { themeButton } from "./theme.js";

export const VIEWS = ["browse", "search", "map", "duplicates", "atlas", "runs"];
const KEPT = ["q", "where", "sort", "lang"]; // and f.NAME: what selects images goes along from view to view

const SHAPES = {
  browse: ["M3 3h7v7H3zM14 3h7v7h-7zM3 14h7v7H3zM14 14h7v7h-7z"],
  search: ["M10.5 4a6.5 6.5 0 1 0 0 13a6.5 6.5 0 0 0 0-13zM15.5 15.5 21 21"],
  map: ["M12 21C7 15 5 12 5 9a7 7 0 0 1 14 0c0 3-2 6-7 12zM12 7a2 2 0 1 0 0 4a2 2 0 0 0 0-4z"],
  duplicates: ["M3 3h12v12H3zM19 9h2v12H9v-2"],
  atlas: ["M6 8h.01M10 5h.01M12 10h.01M7 13h.01M17 7h.01M18 16h.01M14 19h.01M9 18h.01M20 11h.01"],
  runs: ["M3 13h4l3-8 4 15 3-7h4"],
  settings: ["M4 7h9M19 7h1M4 17h1M11 17h9M16 4.5a2.5 2.5 0 1 0 0 5a2.5 2.5 0 0 0 0-5zM8 14.5a2.5 2.5 0 1 0 0 5a2.5 2.5 0 0 0 0-5z"],
};
const links = new Map();

/** Build it; `known` gives what the server told of itself. */
export function buildHead(known) {
  for (const name of VIEWS) {
    const texts = [h("span", { class: "wide" }, t(`core.${name}`)), h("span", { class: "narrow" }, t(`core.${name}_short`))];
    links.set(name, h("a", { href: "?", dataset: { view: name } }, icon(name), texts));
  }
  const button = (name, shape, work) => h("button", { class: "quiet", onclick: work, "aria-label": t(name), title: t(name) }, shape);
  fill(
    document.getElementById("head"),
    h("a", { class: "brand", href: "?view=browse" }, h("span", { class: "mark", "aria-hidden": "true" }), "imagelake"),
    h("nav", { class: "nav", "aria-label": t("core.views") }, [...links.values()]),
    h("span", { class: "spring" }),
    themeButton(),
    button("core.settings", icon("settings"), () => settingsSheet(known())),
    button("core.help", "?", helpSheet),
  );
}

/** Mark the view that is shown, and let the links keep what selects images. */
export function markHead(current) {
  for (const [name, link] of links) {
    link.setAttribute("href", href({ ...nothing(), view: name, ...selected() }));
    if (name === current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function icon(name) {
  const paths = SHAPES[name].map((d) => h("path", { d }));
  return h("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" }, paths);
}

function nothing() {
  return Object.fromEntries([...all().keys()].map((name) => [name, null]));
}

function selected() {
  const names = [...new Set(all().keys())].filter((name) => KEPT.includes(name) || name.startsWith("f."));
  return Object.fromEntries(names.map((name) => [name, all().getAll(name)]));
}
