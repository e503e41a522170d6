// The picture itself: large, zoomable, with its regions drawn on it.

import { href } from "../../core/address.js";
import { fill, h } from "../../core/dom.js";
import { get, thumbnail } from "../../core/server.js";
import { number, t } from "../../core/texts.js";
import { zoomable } from "../../core/zoom.js";

const STEPS = [512, 1024, 1600, 2400, 3600, 5400, 8192]; // the sides that the server makes
const MANY = 12; // with more regions, only the one looked at has its label shown

/** The address of a picture as a browser shows it, its longer side at least `side` pixels where it has so many. */
export const largeOf = (id, side) => `page/api/picture/${id}/large?side=${STEPS.find((step) => step >= side) || STEPS.at(-1)}`;

/** The address of a search by a part of a picture. */
export const searchBox = (id, box) => href({ view: "search", id: null, like: id, box: box.map((side) => side.toFixed(5)).join(",") });

/**
 * The frame with the picture; {element, show(id), tell(picture), zoom, regions(on), look(region id, on), ahead(ids)}.
 * `onScale(scale)` is told pixels of the screen a pixel of the picture.
 */
export function stage({ onSwipe, onScale }) {
  const small = h("img", { class: "picture-small", alt: "", decoding: "async" });
  const big = h("img", { class: "picture-large", alt: "", decoding: "async" });
  const boxes = h("div", { class: "picture-boxes" });
  const layer = h("div", { class: "picture-layer" }, small, big, boxes);
  const word = h("p", { class: "picture-word", role: "status", hidden: true });
  const frame = h("div", { class: "picture-frame" }, layer, word);
  const state = { id: "", side: 0, wanted: 0, width: 0, height: 0, ahead: [] };

  const load = async (side) => {
    const { id } = state;
    const most = Math.max(state.width, state.height);
    const step = STEPS.find((each) => each >= Math.min(side, most)) || STEPS.at(-1);
    if (step <= state.wanted) return;
    state.wanted = step;
    const picture = new Image();
    picture.src = largeOf(id, step);
    try {
      await picture.decode();
    } catch {
      if (id === state.id && !state.side) await sayWhy(id, step, word);
      return;
    }
    if (id !== state.id || step < state.side) return;
    state.side = step;
    big.src = picture.src;
    frame.dataset.side = step;
    big.classList.add("is-there");
    fetchAhead();
  };

  /** The pictures before and after, once this one is there: the next step shows at once. */
  const fetchAhead = () => {
    if (!state.side) return;
    const side = Math.max(frame.clientWidth, frame.clientHeight) * devicePixelRatio;
    for (const id of state.ahead.splice(0)) new Image().src = largeOf(id, Math.min(side, 2400));
  };

  const zoom = zoomable(frame, layer, {
    onSwipe,
    onChange: (scale) => {
      if (state.width) load(Math.max(state.width, state.height) * scale * devicePixelRatio);
      big.classList.toggle("is-coarse", scale >= 4);
      onScale(scale);
    },
  });

  return {
    element: frame,
    zoom,
    /** Another picture: its thumbnail at once. */
    show(id) {
      Object.assign(state, { id, side: 0, wanted: 0, width: 0, height: 0, ahead: [] });
      word.hidden = true;
      frame.dataset.side = 0;
      big.classList.remove("is-there");
      big.removeAttribute("src");
      fill(boxes);
      small.src = thumbnail(encodeURIComponent(id));
    },
    /** What is known of it: its size, its regions. */
    tell(picture) {
      Object.assign(state, { width: picture.width, height: picture.height });
      layer.style.setProperty("--color", picture.color || "transparent");
      big.alt = picture.name;
      fill(boxes, (picture.regions || []).filter((region) => !region.fallback).map((region) => drawn(picture.id, region)));
      boxes.classList.toggle("is-many", boxes.children.length > MANY);
      zoom.size(picture.width, picture.height);
    },
    ahead(ids) {
      state.ahead = ids;
      fetchAhead();
    },
    regions(on) {
      boxes.hidden = !on;
    },
    look(region, on) {
      for (const box of boxes.children) box.classList.toggle("is-looked-at", on && box.dataset.region === region);
      boxes.classList.toggle("is-looking", on);
    },
  };
}

/** A box of the picture, which leads to a search by what is in it. */
function drawn(id, region) {
  const [left, top, right, bottom] = region.box_xyxy;
  const name = region.label || t("picture.region");
  const score = region.score === undefined ? "" : ` ${number(region.score * 100)} %`;
  const percent = (value) => `${value * 100}%`;
  return h(
    "a",
    {
      class: "picture-box",
      href: searchBox(id, region.box_xyxy),
      title: t("picture.search_region", { label: name }),
      "aria-label": t("picture.search_region", { label: name }),
      draggable: "false",
      dataset: { region: region.id },
      style: { left: percent(left), top: percent(top), width: percent(right - left), height: percent(bottom - top) },
    },
    h("span", { class: "picture-box-label" }, name + score),
  );
}

/** The reason why a picture cannot be shown large; its thumbnail stays. */
async function sayWhy(id, step, word) {
  try {
    await get(`picture/${id}/large`, { side: step });
  } catch (error) {
    word.textContent = error.message;
    word.hidden = false;
  }
}
