// One place of a grid: made once, and shown with one image after the other.

import { isChosen } from "./chosen.js";
import { href } from "./address.js";
import { h } from "./dom.js";
import { thumbnail } from "./server.js";
import { t, time } from "./texts.js";

/** A cell in a list; `options` are those of the grid. */
export function makeCell(list, options) {
  const image = h("img", { alt: "", decoding: "async", draggable: "true" });
  const link = h("a", { class: "tile grid-link", tabindex: "-1" }, image);
  const check = h("button", { class: "grid-check", type: "button", tabindex: "-1", "aria-pressed": "false" }, "✓");
  const like = options.like && h("a", { class: "grid-like", tabindex: "-1" }, t("browse.like_short"));
  const cell = h("div", { class: "grid-cell", role: "listitem" }, link, check, like);
  let item = null;
  let shown = "";
  image.addEventListener("load", () => cell.classList.add("is-there"));
  image.addEventListener("error", () => cell.classList.add("is-there"));
  cell.addEventListener("pointerenter", tell);
  list.append(cell);

  /** What the image is, once somebody points at it: to say it of each that scrolls by takes long. */
  function tell() {
    link.title = item ? [item.name, time(item.taken_at), [...item.labels, ...item.tags].join(", ")].filter(Boolean).join("\n") : "";
  }

  function load() {
    if (!item || shown === item.id) return;
    shown = item.id;
    image.src = thumbnail(item.id);
  }

  function mark() {
    const on = item !== null && isChosen(item.id);
    cell.classList.toggle("is-chosen", on);
    check.setAttribute("aria-pressed", String(on));
  }

  return {
    element: cell,
    link,
    load,
    mark,
    /** Where it lies, and the color of its image, 5 + 6 + 5 bits. */
    put(index, count, left, top, width, height, color) {
      cell.hidden = false;
      cell.dataset.index = index;
      cell.setAttribute("aria-setsize", count);
      cell.setAttribute("aria-posinset", index + 1);
      cell.style.setProperty("transform", `translate(${left}px, ${top}px)`);
      cell.style.setProperty("width", `${width}px`);
      cell.style.setProperty("height", `${height}px`);
      link.style.setProperty("--color", color === undefined ? "var(--sunken)" : rgb(color));
    },
    /** Its image, or null while that is under way. */
    show(next, index) {
      if (next && item && next.id === item.id && cell.dataset.id === next.id) {
        item = next;
        return mark();
      }
      item = next;
      if (!next || shown !== next.id) {
        shown = "";
        image.removeAttribute("src");
        cell.classList.remove("is-there");
      }
      if (next) describe(next);
      else blank(index);
      mark();
    },
    /** Whether Tab comes to it. */
    reach(on) {
      link.tabIndex = on ? 0 : -1;
    },
    /** It is out of sight, and may become another. */
    rest() {
      item = null;
      shown = "";
      image.removeAttribute("src");
      cell.hidden = true;
      cell.classList.remove("is-there");
      link.tabIndex = -1;
    },
  };

  function describe(next) {
    cell.dataset.id = next.id;
    link.dataset.id = next.id;
    link.setAttribute("href", href({ view: "picture", id: next.id, ...options.changes?.(next) }));
    image.alt = next.name;
    check.setAttribute("aria-label", t("browse.choose", { name: next.name }));
    if (!like) return;
    like.setAttribute("href", options.like(next));
    like.setAttribute("aria-label", t("browse.like", { name: next.name }));
  }

  function blank(index) {
    delete cell.dataset.id;
    link.removeAttribute("href");
    const text = t("browse.loading", { number: String(index + 1) });
    image.alt = text;
    check.setAttribute("aria-label", text);
  }
}

const rgb = (color) => `rgb(${(color >> 11) << 3} ${((color >> 5) & 63) << 2} ${(color & 31) << 3})`;
