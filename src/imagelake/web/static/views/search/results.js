// What a search found: tiles with rank, distance and a bar; and what can be said of the answer as a whole.

import { href } from "../../core/address.js";
import { place } from "../../core/boxing.js";
import { fill, h } from "../../core/dom.js";
import { language, number, t, tn } from "../../core/texts.js";
import { tile } from "../../core/tile.js";

/** Put an answer of the server into an element; `line` is where on a bar the cut-off is. */
export function showResults(element, answer, line) {
  const tiles = answer.matches.map((match, index) => card(match, index, answer, line));
  const cut = answer.better;
  if (cut !== null && cut < tiles.length) tiles.splice(cut, 0, filler(), divider(cut));
  fill(element, tiles, answer.matches.length ? filler() : nothing());
}

/** One line about the answer: how many, of how many, how long, and whether it is proven. */
export function summary(answer, milliseconds) {
  return [
    h("span", {}, tn("search.found", answer.matches.length, { among: answer.images })),
    answer.better === null ? null : h("span", {}, t("search.better", { better: answer.better })),
    h("span", { title: t("search.round_trip", { ms: Math.round(milliseconds) }) }, t("search.took", { ms: Math.max(1, Math.round(answer.seconds * 1000)) })),
    proof(answer),
  ];
}

/** In words, for a screen reader. */
export function spoken(answer) {
  const parts = [tn("search.found", answer.matches.length, { among: answer.images })];
  if (answer.better !== null) parts.push(t("search.better", { better: answer.better }));
  if (answer.certified) parts.push(t("search.certified"));
  return parts.join(". ");
}

function card(match, index, answer, line) {
  const { item } = match;
  const ratio = Math.min(2.2, Math.max(0.6, (item.width || 1) / (item.height || 1)));
  const chance = answer.better !== null && index >= answer.better;
  const picture = tile(item, { eager: index < 8 });
  if (match.box) {
    const frame = h("span", { class: "search-box", title: match.label });
    place(frame, match.box);
    picture.append(frame);
  }
  const changes = { view: "search", like: item.id, query: null, url: null, box: match.box ? match.box.join(",") : null, id: null };
  return h(
    "article",
    { class: `search-card${chance ? " chance" : ""}`, style: { "--ratio": String(ratio) }, "aria-label": t("search.match", { rank: index + 1, name: item.name }) },
    h("div", { class: "search-picture" }, picture, h("span", { class: "search-rank", "aria-hidden": "true" }, number(index + 1)),
      h("a", { class: "search-more", href: href(changes), title: t("search.more_like_this") }, t("search.more_like_this"))),
    barOf(match, line),
    h("div", { class: "search-facts" },
      h("span", { class: "search-distance", title: t("search.distance") }, h("span", { class: "visually-hidden" }, t("search.distance"), " "), distance(match.distance)),
      h("span", { class: "search-name" }, match.label || item.name)),
  );
}

function barOf(match, line) {
  if (match.bar === null) return h("div", { class: "search-bar empty", "aria-hidden": "true" });
  const words = t("search.by_chance", { count: few(match.by_chance) });
  return h(
    "div",
    { class: "search-bar", role: "img", "aria-label": words, title: words, style: { "--length": `${match.bar * 100}%`, "--line": `${line * 100}%` } },
    h("span", { class: "search-length" }),
    h("span", { class: "search-line" }),
  );
}

function divider(cut) {
  return h("p", { class: "search-cut" }, h("span", {}, t(cut ? "search.cut" : "search.cut_all")));
}

const filler = () => h("span", { class: "search-fill", "aria-hidden": "true" }); // the last row is no larger than others

const nothing = () => h("p", { class: "hint search-nothing" }, t("search.nothing"));

function distance(value) {
  const digits = Math.abs(value) < 10 ? 3 : 1;
  return new Intl.NumberFormat(language, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
}

/** A number of images that may be very small, as people read it. */
function few(count) {
  if (count >= 10) return number(count);
  if (count >= 0.01) return number(count, count >= 1 ? 1 : 2);
  if (count < 1e-6) return t("search.under_a_millionth");
  return t("search.one_in", { count: Number((1 / count).toPrecision(1)) });
}

function proof(answer) {
  const kind = answer.certified ? "certified" : answer.coded ? "coded" : "unproven";
  const all = answer.certified && answer.measured >= answer.searched ? "_all" : "";
  const values = { searched: answer.searched, measured: answer.measured };
  return h(
    "details",
    { class: `search-proof ${kind}` },
    h("summary", {}, answer.certified ? h("span", { "aria-hidden": "true" }, "✓ ") : null, t(`search.${kind}`)),
    h("p", { class: "card" }, t(`search.${kind}${all}_why`, values)),
  );
}
