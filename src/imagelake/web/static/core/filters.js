// The facets of a selection with their counts: what is there, and what of it is chosen.

import { all, go } from "./address.js";
import { fill, h, later } from "./dom.js";
import { FACETS, facetName, NONE, sharedFolder, valueName } from "./facet_names.js";
import { remember, remembered } from "./memory.js";
import { number, t } from "./texts.js";

const SHORT = 7; // values shown of a facet until somebody asks for more
const SEARCHED = 15; // from so many on a facet has a search of its own
const YEARS = 15;
const MOST = 300; // values shown at once, however many there are
const OPEN = "label tag year place camera flag";

/** What is chosen of a facet in the address. */
export const chosenOf = (facet) => all().getAll(`f.${facet}`);

/** Choose a value of a facet, or no longer. */
export function toggle(facet, value) {
  const now = chosenOf(facet);
  go({ [`f.${facet}`]: now.includes(value) ? now.filter((each) => each !== value) : [...now, value] });
}

/** The facets in an element; `show(counts)` with {facet: [[value, count], ...]}. */
export function makeFilters(element) {
  const closed = new Set((remembered("facets") || "folder set format gps").split(" "));
  const parts = new Map();
  for (const facet of FACETS) {
    const part = makeFacet(facet, !closed.has(facet) && OPEN.includes(facet), (open) => {
      if (open) closed.delete(facet);
      else closed.add(facet);
      remember("facets", [...closed].join(" ") || "-");
    });
    parts.set(facet, part);
    element.append(part.element);
  }
  return {
    show(counts) {
      const shared = sharedFolder((counts.folder || []).map(([value]) => value));
      for (const facet of FACETS) parts.get(facet).show(counts[facet] || [], shared);
    },
  };
}

function makeFacet(facet, opens, onOpen) {
  const id = `facet-${facet}`;
  const count = h("span", { class: "filters-picked" });
  const head = h("button", { type: "button", class: "filters-head", "aria-expanded": String(opens), "aria-controls": id, onclick: turn }, h("span", {}, facetName(facet)), count);
  const search = h("input", { type: "search", class: "filters-search", placeholder: t("browse.find_value"), "aria-label": t("browse.find_in", { facet: facetName(facet) }), oninput: later(60, () => draw()) });
  const list = h("ul", { class: "filters-list" });
  const more = h("button", { type: "button", class: "quiet filters-more", onclick: () => { long = !long; draw(); } });
  const body = h("div", { id, class: "filters-body", hidden: !opens }, search, list, more);
  const element = h("section", { class: "filters-facet", dataset: { facet }, hidden: true }, h("h2", {}, head), body);
  let told = [];
  let shared = "";
  let long = false;

  function turn() {
    body.hidden = !body.hidden;
    head.setAttribute("aria-expanded", String(!body.hidden));
    onOpen(!body.hidden);
    draw();
  }

  function draw() {
    if (body.hidden) return;
    const chosen = chosenOf(facet);
    const words = search.value.trim().toLowerCase();
    const fits = told.filter(([value]) => !words || valueName(facet, value, shared).toLowerCase().includes(words));
    const short = facet === "year" ? YEARS : SHORT;
    const most = long || words ? MOST : short;
    const shown = [...fits.filter(([value]) => chosen.includes(value)), ...fits.filter(([value]) => !chosen.includes(value))].slice(0, Math.max(most, chosen.length));
    const kept = list.contains(document.activeElement) ? document.activeElement.value : null;
    search.hidden = told.length < SEARCHED;
    fill(list, sorted(facet, shown).map(([value, images]) => row(value, images, chosen.includes(value))));
    more.hidden = Boolean(words) || fits.length <= short;
    more.textContent = long ? t("browse.fewer") : t("browse.more", { count: fits.length - shown.length });
    if (kept !== null) [...list.querySelectorAll("input")].find((each) => each.value === kept)?.focus({ preventScroll: true });
  }

  function row(value, images, on) {
    const below = facet === "place" && value.includes("/"); // a place stands below its country
    const name = below ? value.slice(value.indexOf("/") + 1) : valueName(facet, value, shared);
    const box = h("input", { type: "checkbox", value, checked: on, onchange: () => toggle(facet, value) });
    return h("li", {}, h("label", { title: valueName(facet, value, shared), class: value === NONE ? "is-none" : below ? "is-below" : null }, box, h("span", { class: "filters-name" }, name), h("span", { class: "filters-count" }, number(images))));
  }

  return {
    element,
    show(values, sharedNow) {
      const chosen = chosenOf(facet);
      const there = new Set(values.map(([value]) => value));
      told = [...values, ...chosen.filter((value) => !there.has(value)).map((value) => [value, 0])];
      shared = sharedNow;
      const says = told.some(([value]) => value !== NONE) || chosen.length > 0; // one that no image has says nothing
      element.hidden = !says || (told.length < 2 && !chosen.length && ["set", "gps", "format"].includes(facet));
      count.textContent = chosen.length ? number(chosen.length) : "";
      draw();
    },
  };
}

/** Years are a line of time; all else goes by how many there are, none last. */
function sorted(facet, values) {
  const last = (value) => (value === NONE ? 1 : 0);
  if (facet === "year") return [...values].sort(([a], [b]) => last(a) - last(b) || b.localeCompare(a));
  if (facet === "place") return values.filter(([value]) => !value.includes("/")).sort(([a], [b]) => last(a) - last(b)).flatMap((land) => [land, ...inside(values, land[0])]).concat(orphans(values));
  return [...values].sort(([a], [b]) => last(a) - last(b));
}

const inside = (values, land) => values.filter(([value]) => value.startsWith(`${land}/`));

/** Places whose country is not in the list, as while somebody searches. */
function orphans(values) {
  const lands = new Set(values.map(([value]) => value));
  return values.filter(([value]) => value.includes("/") && !lands.has(value.split("/")[0]));
}
