// What models found in a picture, and what is like it: regions, predictions, neighbors, copies.

import { href } from "../../core/address.js";
import { fill, h } from "../../core/dom.js";
import { get } from "../../core/server.js";
import { language, number, t, time } from "../../core/texts.js";
import { tile } from "../../core/tile.js";
import { searchBox } from "./stage.js";

const SHOWN = 12; // of neighbors, and of copies

/** The regions; `look(id, on)` is told which one somebody looks at. */
export function regions(section, picture, look, toggle) {
  const found = picture.regions || [];
  section.hidden = !found.length;
  const line = (region) =>
    h(
      "li",
      { onpointerenter: () => look(region.id, true), onpointerleave: () => look(region.id, false) },
      h(
        "a",
        { href: searchBox(picture.id, region.box_xyxy), onfocus: () => look(region.id, true), onblur: () => look(region.id, false) },
        region.label || t("picture.region"),
      ),
      score(region.score),
      h("small", {}, [region.model, region.fallback && t("picture.fallback")].filter(Boolean).join(" · ")),
    );
  fill(section, h("div", { class: "row" }, h("h2", {}, t("picture.regions")), h("span", { class: "spring" }), toggle), h("ul", { class: "picture-found" }, found.map(line)));
}

function score(value) {
  if (value === undefined) return h("span", {});
  return h("span", { class: "picture-score" }, h("meter", { min: 0, max: 1, value, "aria-label": t("picture.score") }), `${number(value * 100)} %`);
}

/** What models answered to events about it. */
export function predictions(section, picture) {
  const found = picture.predictions || [];
  section.hidden = !found.length;
  const line = (told) => {
    const about = [told.model, told.device, time(told.predicted_at || told.happened_at)].filter(Boolean).join(" · ");
    const event = [told.event_source, told.event_id, told.uri].filter(Boolean).join(" · ");
    return h("li", {}, h("span", {}, told.label || "?"), score(told.score), h("small", {}, about), event && h("small", { class: "picture-uri" }, event));
  };
  fill(section, h("h2", {}, t("picture.predictions")), h("ul", { class: "picture-found" }, found.map(line)));
}

/** What is near, asked for after the rest is shown; gives the ids of the neighbors. */
export async function near(similar, copies, picture, isCurrent) {
  const head = h("h2", {}, t("picture.similar"));
  fill(similar, head, h("div", { class: "picture-near is-waiting" }));
  fill(copies, h("h2", {}, t("picture.copies")));
  const found = await get(`picture/${picture.id}/near`, { k: SHOWN }).catch((error) => ({ neighbors: [], copies: [], why: error.message }));
  if (!isCurrent()) return;
  const more = h("a", { class: "picture-more", href: href({ view: "search", id: null, like: picture.id, box: null }) }, t("picture.more_like"));
  fill(
    similar,
    h("div", { class: "row" }, head, h("span", { class: "spring" }), found.neighbors.length ? more : null),
    found.neighbors.length ? strip(found.neighbors, (item) => apart(item.distance), found) : h("p", { class: "hint" }, found.why || t("picture.no_similar")),
    found.better === undefined ? null : h("p", { class: "hint" }, t("picture.better", { better: found.better, shown: found.neighbors.length })),
  );
  const all = h("a", { class: "picture-more", href: href({ view: "duplicates", id: null }) }, t("picture.all_copies"));
  const seen = picture.uris_count || 0;
  fill(
    copies,
    h("div", { class: "row" }, h("h2", {}, t("picture.copies")), h("span", { class: "spring" }), found.copies.length ? all : null),
    seen > 1 ? h("p", { class: "hint" }, t("picture.same_bytes", { count: seen })) : null,
    found.copies.length ? strip(found.copies.slice(0, SHOWN), copyWord, {}) : h("p", { class: "hint" }, t("picture.no_copies")),
    found.copies.length > SHOWN ? h("p", { class: "hint" }, t("picture.more_copies", { count: found.copies.length - SHOWN })) : null,
  );
}

/** A distance with three digits, so that those of a row compare. */
const apart = (value) => new Intl.NumberFormat(language, { minimumFractionDigits: 3, maximumFractionDigits: 3 }).format(value);

function copyWord(item) {
  return item.by === "hash" ? t("picture.by_hash", { bits: item.distance }) : t("picture.by_vector", { distance: apart(item.distance) });
}

/** Tiles with a word each, and a bar where it is known how near that is among all. */
function strip(items, word, { set, line, better = items.length }) {
  const each = (item, number) => h("li", { class: number < better ? null : "is-chance" }, tile(item), barOf(item.bar, line), h("small", {}, word(item)));
  return h("ul", { class: "picture-near", title: set || null }, items.map(each));
}

function barOf(length, line) {
  if (length === undefined) return null;
  return h("div", { class: "picture-nearness", "aria-hidden": "true", style: { "--length": `${length * 100}%`, "--line": `${line * 100}%` } });
}
