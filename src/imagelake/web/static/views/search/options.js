// How to search: how many, by which vectors, exactly or by codes, and among which images.

import { all, go, href, selection } from "../../core/address.js";
import { fill, h, later } from "../../core/dom.js";
import { number, t } from "../../core/texts.js";

export const USUAL_K = 30;

/** {element, show(params, sets, answer)}; every change goes into the address. */
export function optionsPanel() {
  const told = h("output", { class: "search-k" });
  const change = later(200, (value) => go({ k: value === String(USUAL_K) ? null : value }, { replace: true }));
  const count = h("input", { type: "range", min: "10", max: "200", step: "10", "aria-label": t("search.count"),
    oninput: () => { told.textContent = number(Number(count.value)); change(count.value); } });
  const ways = h("div", { class: "search-ways", role: "group", "aria-label": t("search.way") });
  const sets = h("select", { "aria-label": t("search.set"), onchange: () => go({ set: sets.value, codes: null }) });
  const among = h("p", { class: "search-among", hidden: true });
  const setRow = h("label", { class: "search-option" }, h("span", {}, t("search.set")), sets);
  const wayRow = h("div", { class: "search-option" }, h("span", { "aria-hidden": "true" }, t("search.way")), ways);
  const element = h(
    "div",
    { class: "search-options" },
    h("label", { class: "search-option" }, h("span", {}, t("search.count")), h("span", { class: "search-slider" }, count, told)),
    wayRow, setRow, among,
  );
  return {
    element,
    show(params, known) {
      const k = params.get("k") || String(USUAL_K);
      if (document.activeElement !== count) count.value = k;
      told.textContent = number(Number(count.value));
      const chosen = params.get("set") || known.usual;
      setRow.hidden = known.sets.length < 2;
      fill(sets, known.sets.map((each) => h("option", { value: each.name }, nameOf(each))));
      sets.value = chosen;
      wayRow.hidden = !known.sets.find((each) => each.name === chosen)?.codes;
      fill(ways, way("exact", null, params), way("codes", "1", params));
      showAmong(among);
    },
  };
}

function way(name, value, params) {
  const pressed = (params.get("codes") || null) === value;
  return h("button", { type: "button", "aria-pressed": String(pressed), title: t(`search.${name}_hint`), onclick: () => go({ codes: value }) }, t(`search.by_${name}`));
}

const nameOf = (set) => (set.regions ? t("search.set_regions", { name: set.name, count: set.vectors }) : t("search.set_whole", { name: set.name, count: set.vectors }));

/** Whether the address selects images; then only these are searched. */
export function isSelected() {
  return [...selection().keys()].some((name) => name !== "sort");
}

function showAmong(element) {
  element.hidden = !isSelected();
  const gone = Object.fromEntries([...all().keys()].filter((name) => ["q", "where"].includes(name) || name.startsWith("f.")).map((name) => [name, null]));
  const browsing = { view: "browse", like: null, query: null, url: null, box: null, k: null, codes: null, set: null };
  fill(element, t("search.among"), " ", h("a", { href: href(browsing) }, t("search.show_selection")), " · ", h("a", { href: href(gone) }, t("search.search_all")));
}
