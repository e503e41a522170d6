// The list beside the map: the pictures in view, or those of one marker, as tiles; all that the map shows can be had here.

import { all, href } from "../../core/address.js";
import { fill, h } from "../../core/dom.js";
import { get } from "../../core/server.js";
import { t, tn } from "../../core/texts.js";
import { tile } from "../../core/tile.js";
import { boundsText } from "./points.js";

const MOST = 60;

/** A list in an element: show({points, indexes, bounds, onBack}). */
export function sideList(element) {
  const head = h("h2", { class: "map-count", role: "status" });
  const links = h("div", { class: "row map-links" });
  const tiles = h("div", { class: "map-tiles" });
  const more = h("p", { class: "hint" });
  fill(element, h("div", { class: "map-list-head" }, head, links), tiles, more);
  let wanted = null;
  let shown = "";
  return {
    async show({ points, indexes, bounds, onBack = null }) {
      head.textContent = tn(onBack ? "map.here" : "map.in_view", indexes.length);
      const browse = href({ view: "browse", "f.bounds": boundsOf(points, indexes, bounds), at: null });
      fill(
        links,
        onBack && h("button", { onclick: onBack }, t("map.back")),
        indexes.length > 0 && h("a", { class: "button", href: browse }, t("map.to_browse")),
      );
      more.textContent = indexes.length > MOST ? t("map.first", { count: MOST }) : "";
      const ids = indexes.slice(0, MOST).map(points.id).join(",");
      if (ids === shown) return;
      shown = ids;
      wanted?.abort();
      wanted = new AbortController();
      try {
        const { items } = ids ? await get("points/items", { ids }, wanted.signal) : { items: [] };
        fill(tiles, items.map((item) => tile(item)));
      } catch (error) {
        if (error.name !== "AbortError") fill(tiles, h("p", { class: "hint" }, error.message));
      }
    },
  };
}

/** What Browse is led to: the area of the address, and within it what is in view. */
function boundsOf(points, indexes, bounds) {
  const chosen = all().getAll("f.bounds");
  return chosen.length && indexes.length === points.count ? chosen : [...chosen, boundsText(bounds)];
}
