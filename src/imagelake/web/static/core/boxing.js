// A picture on which a box can be drawn: with a mouse, a finger, the keyboard, or in numbers.

import { announce, fill, h, later } from "./dom.js";
import { t } from "./texts.js";

const LEAST = 0.02; // of a side
const STEP = 0.02;
const CORNERS = ["nw", "ne", "sw", "se"];
const START = [0.25, 0.25, 0.75, 0.75];

/**
 * {element, show(picture, box)}: `picture` is {src, alt, width, height, ready: [{box, label}]}, a box
 * [left, top, right, bottom] in 0..1 or null. `onBox(box)` is called when somebody has drawn, chosen, moved or removed one.
 */
export function boxing({ onBox }) {
  const state = { box: null, drag: null, touch: false };
  const image = h("img", { class: "boxing-image", draggable: "false", decoding: "async" });
  const ready = h("div", { class: "boxing-ready" });
  const frame = h(
    "div",
    { class: "boxing-frame", hidden: true, tabindex: "0", role: "group", onkeydown: (event) => keyed(event) },
    CORNERS.map((corner) => h("span", { class: `boxing-corner ${corner}`, dataset: { corner } })),
  );
  const stage = h("div", { class: "boxing-stage" }, image, ready, frame);
  const draw = h("button", { type: "button", "aria-pressed": "false", onclick: toggle }, t("search.draw"));
  const none = h("button", { type: "button", class: "quiet", hidden: true, onclick: () => set(null, true) }, t("search.whole"));
  const numbers = numberForm((box) => set(box, true));
  const element = h("div", { class: "boxing" }, stage, h("div", { class: "row boxing-tools" }, draw, none), numbers.element);
  const tell = later(350, () => onBox(state.box));

  function toggle() {
    state.touch = !state.touch;
    draw.setAttribute("aria-pressed", String(state.touch));
    stage.classList.toggle("drawing", state.touch);
    if (state.touch && !state.box) set(START, true);
    if (state.touch) frame.focus();
  }

  function set(box, final = false) {
    state.box = box && box.map((side) => Math.round(side * 1000) / 1000);
    frame.hidden = none.hidden = !box;
    numbers.show(state.box);
    if (box) {
      place(frame, state.box);
      frame.setAttribute("aria-label", t("search.box_at", percents(state.box)));
    }
    if (final) tell();
  }

  function keyed(event) {
    const move = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
    if (event.key === "Delete" || event.key === "Backspace") {
      set(null, true);
      draw.focus();
    } else if (move && !event.altKey && !event.ctrlKey && !event.metaKey) {
      set(event.shiftKey ? sized(state.box, move) : moved(state.box, move), true);
      announce(t("search.box_at", percents(state.box)));
    } else return;
    event.preventDefault();
  }

  drawing(stage, frame, state, set);

  return {
    element,
    show(picture, box) {
      if (image.getAttribute("src") !== picture.src) image.setAttribute("src", picture.src);
      image.alt = picture.alt;
      stage.style.setProperty("--ratio", String((picture.width || 1) / (picture.height || 1)));
      stage.style.setProperty("--color", picture.color || "var(--sunken)");
      fill(ready, picture.ready.map((each) => readyBox(each, () => set(each.box, true))));
      if (!state.drag) set(box);
    },
  };
}

/** Draw, move and resize with a pointer. */
function drawing(stage, frame, state, set) {
  const at = (event) => {
    const { left, top, width, height } = stage.getBoundingClientRect();
    return [clamp((event.clientX - left) / width), clamp((event.clientY - top) / height)];
  };
  stage.addEventListener("pointerdown", (event) => {
    if (event.button || (event.pointerType === "touch" && !state.touch)) return;
    const corner = event.target.dataset?.corner;
    const inside = state.box && frame.contains(event.target);
    state.drag = { from: at(event), before: state.box, kind: corner || (inside ? "move" : "draw"), moved: false };
  });
  stage.addEventListener("pointermove", (event) => {
    const drag = state.drag;
    if (!drag) return;
    const to = at(event);
    const { width, height } = stage.getBoundingClientRect();
    if (!drag.moved && Math.hypot((to[0] - drag.from[0]) * width, (to[1] - drag.from[1]) * height) < 5) return;
    if (!drag.moved) stage.setPointerCapture(event.pointerId);
    drag.moved = true;
    set(dragged(drag, to));
  });
  const end = (event) => {
    const drag = state.drag;
    state.drag = null;
    if (!drag?.moved) return;
    if (event.type === "pointercancel") set(drag.before);
    else set(state.box, true);
  };
  stage.addEventListener("pointerup", end);
  stage.addEventListener("pointercancel", end);
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !state.drag) return;
    set(state.drag.before);
    state.drag = null;
    event.preventDefault();
  });
}

function dragged({ kind, from, before }, to) {
  const by = [to[0] - from[0], to[1] - from[1]];
  if (kind === "move") return moved(before, by);
  if (kind === "draw") return spanned(from, to);
  const fixed = [kind.includes("w") ? before[2] : before[0], kind.includes("n") ? before[3] : before[1]];
  return spanned(fixed, to);
}

/** The box between two points, of a size that can be searched. */
function spanned([x, y], [toX, toY]) {
  const side = (one, two) => {
    const low = Math.min(one, two, 1 - LEAST);
    return [low, Math.max(one, two, low + LEAST)];
  };
  const [left, right] = side(x, toX);
  const [top, bottom] = side(y, toY);
  return [left, top, right, bottom];
}

function moved([left, top, right, bottom], [x, y]) {
  const dx = Math.min(Math.max(x, -left), 1 - right);
  const dy = Math.min(Math.max(y, -top), 1 - bottom);
  return [left + dx, top + dy, right + dx, bottom + dy];
}

function sized([left, top, right, bottom], [x, y]) {
  return [left, top, Math.min(1, Math.max(left + LEAST, right + x)), Math.min(1, Math.max(top + LEAST, bottom + y))];
}

function readyBox({ box, label }, work) {
  const name = label || t("search.region");
  const button = h("button", { type: "button", class: "boxing-region", onclick: work, "aria-label": t("search.use_region", { name }), title: name }, h("span", {}, name));
  place(button, box);
  return button;
}

/** Lay an element over a part of its parent. */
export function place(element, [left, top, right, bottom]) {
  for (const [name, value] of [["left", left], ["top", top], ["width", right - left], ["height", bottom - top]]) {
    element.style.setProperty(name, `${value * 100}%`);
  }
}

/** Four fields, for whoever cannot or will not draw. */
function numberForm(done) {
  const fields = ["left", "top", "right", "bottom"].map((side) =>
    h("input", { type: "number", min: "0", max: "100", step: "1", name: side, "aria-label": t(`search.${side}`) }),
  );
  const word = h("p", { class: "hint", role: "status" });
  const send = (event) => {
    event.preventDefault();
    const box = fields.map((field) => clamp(Number(field.value) / 100));
    const right = fields.every((field) => field.value !== "") && box[0] < box[2] && box[1] < box[3];
    word.textContent = right ? "" : t("search.box_wrong");
    if (right) done(box);
  };
  const form = h(
    "form",
    { class: "boxing-form", onsubmit: send, novalidate: true },
    fields.map((field) => h("label", {}, t(`search.${field.name}`), field)),
    h("button", {}, t("search.set_box")),
  );
  return {
    element: h("details", { class: "boxing-numbers" }, h("summary", {}, t("search.numbers")), form, word),
    show: (box) => fields.forEach((field, index) => (field.value = box ? String(Math.round(box[index] * 100)) : "")),
  };
}

const clamp = (value) => Math.min(1, Math.max(0, value));
const percents = (box) => Object.fromEntries(["left", "top", "right", "bottom"].map((side, index) => [side, Math.round(box[index] * 100)]));
