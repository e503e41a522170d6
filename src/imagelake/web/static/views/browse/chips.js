// What is selected at present, each part of it with a way to take it back.

import { all, go } from "../../core/address.js";
import { fill, h } from "../../core/dom.js";
import { facetName, valueName } from "../../core/facet_names.js";
import { toggle } from "../../core/filters.js";
import { t } from "../../core/texts.js";

/** {element, show(), clear()}. */
export function makeChips() {
  const element = h("div", { class: "browse-chips row", role: "group", "aria-label": t("browse.active"), hidden: true });

  function show() {
    const parts = [];
    for (const [name, value] of all()) {
      if (name === "q" || name === "where") parts.push([name === "q" ? t("browse.text") : "SQL", value, () => go({ [name]: null })]);
      else if (name === "f.bounds") parts.push([t("browse.facet_bounds"), valueName("bounds", value), () => go({ [name]: null })]);
      else if (name.startsWith("f.")) parts.push([facetName(name.slice(2)), valueName(name.slice(2), value), () => toggle(name.slice(2), value)]);
    }
    element.hidden = !parts.length;
    fill(element, parts.map(([kind, text, drop]) => chip(kind, text, drop)), parts.length > 0 && h("button", { class: "quiet", type: "button", onclick: clear }, t("browse.clear")));
  }

  function clear() {
    const gone = { q: null, where: null };
    for (const name of all().keys()) if (name.startsWith("f.")) gone[name] = null;
    go(gone);
  }

  return { element, show, clear };
}

function chip(kind, text, drop) {
  return h("button", { class: "chip browse-chip", type: "button", onclick: drop, "aria-label": t("browse.drop", { name: `${kind}: ${text}` }), title: text }, h("span", { class: "hint" }, kind), h("span", { class: "browse-chip-text" }, text), h("span", { "aria-hidden": "true" }, "✕"));
}
