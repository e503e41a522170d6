// One image as a tile: every list of the page shows images so.

import { href } from "./address.js";
import { h } from "./dom.js";
import { thumbnail } from "./server.js";

/**
 * A link to an image: {id, name, width, height, color}. The color fills its place until the thumbnail is there.
 * `more` goes below the picture; `changes` are more parameters of the address it leads to.
 */
export function tile(item, { more = null, changes = {}, eager = false } = {}) {
  return h(
    "a",
    {
      class: "tile",
      href: href({ view: "picture", id: item.id, ...changes }),
      title: item.name,
      dataset: { id: item.id },
      style: { "--color": item.color || "var(--sunken)", "--ratio": String((item.width || 1) / (item.height || 1)) },
    },
    h("img", { src: thumbnail(item.id), alt: item.name, loading: eager ? null : "lazy", decoding: "async", draggable: "true" }),
    more,
  );
}
