// Two files beside each other, over each other, or their difference; zoomed and moved together.

import { get as parameter, go } from "../../core/address.js";
import { fill, h } from "../../core/dom.js";
import { get, thumbnail } from "../../core/server.js";
import { number, t } from "../../core/texts.js";
import { together } from "./together.js";

const MODES = ["side", "swipe", "difference"];
const GAINS = [1, 2, 4, 8, 16, 32];

/** {element, show(one, other), next()}: the mode is in the address. */
export function makeCompare() {
  const state = { one: null, other: null, pair: "", told: null, gain: 8, turn: 0 };
  const modes = MODES.map((mode) =>
    h("button", { onclick: () => go({ mode: mode === "side" ? null : mode }, { replace: true }), dataset: { mode } }, t(`duplicates.mode_${mode}`)));
  const stage = h("div", { class: "duplicates-stage" });
  const below = h("div", { class: "duplicates-below" });
  const told = h("div", { class: "duplicates-said" });
  const zoom = together(stage);
  const element = h(
    "div",
    { class: "duplicates-compare" },
    h(
      "div",
      { class: "row duplicates-modes", role: "group", "aria-label": t("duplicates.compare") },
      modes,
      h("span", { class: "spring" }),
      h("button", { class: "quiet", onclick: () => zoom.by(1 / 1.5), "aria-label": t("duplicates.farther") }, "−"),
      h("button", { class: "quiet", onclick: () => zoom.by(1.5), "aria-label": t("duplicates.closer") }, "+"),
      h("button", { class: "quiet", onclick: () => zoom.fit(), "aria-label": t("duplicates.fit") }, "⤢"),
    ),
    stage, below, told,
  );
  const mode = () => (MODES.includes(parameter("mode")) ? parameter("mode") : "side");

  function draw() {
    const now = mode();
    for (const each of modes) each.setAttribute("aria-pressed", String(each.dataset.mode === now));
    stage.dataset.mode = now;
    fill(below);
    const same = state.one.id === state.other.id;
    if (now === "side") side();
    else if (now === "swipe") swipe(same);
    else difference(same);
  }

  function side() {
    fill(stage, pane(state.one, t("duplicates.keeps")), pane(state.other, t("duplicates.other")));
    zoom.layers(stage.querySelectorAll(".duplicates-layer"));
  }

  function pane(file, word) {
    return h("figure", { class: "duplicates-pane" }, layer(large(file), file), h("figcaption", {}, h("strong", {}, word), " ", h("span", {}, file.name)));
  }

  function layer(address, file, extra = "") {
    const image = h("img", { class: `duplicates-layer ${extra}`, src: address, alt: file.name, draggable: "false", decoding: "async" });
    image.style.setProperty("background-image", `url("${new URL(thumbnail(file.id), document.baseURI)}")`);
    image.addEventListener("load", () => image.style.removeProperty("background-image"));
    return image;
  }

  function swipe(same) {
    const path = `page/api/difference/${state.one.id}/${state.other.id}`;
    const [first, second] = same ? [large(state.one), large(state.one)] : [`${path}/one`, `${path}/other`];
    const top = layer(second, state.other);
    const over = h("div", { class: "duplicates-over" }, top);
    const line = h("div", { class: "duplicates-line", "aria-hidden": "true" });
    const slide = h("input", { type: "range", min: 0, max: 100, step: 0.5, value: 50, class: "duplicates-slide", "aria-label": t("duplicates.swipe") });
    const move = () => {
      over.style.setProperty("clip-path", `inset(0 0 0 ${slide.value}%)`);
      line.style.setProperty("left", `${slide.value}%`);
    };
    slide.addEventListener("input", move);
    fill(
      stage,
      h("figure", { class: "duplicates-pane" }, layer(first, state.one), over, line, h("figcaption", { class: "duplicates-both" }, h("span", {}, t("duplicates.keeps")), h("span", {}, t("duplicates.other")))),
    );
    fill(below, slide);
    dragged(stage.firstChild, (share) => { slide.value = String(share * 100); move(); }, zoom);
    move();
    zoom.layers(stage.querySelectorAll(".duplicates-layer"));
  }

  function difference(same) {
    if (same) {
      fill(stage, h("p", { class: "duplicates-same" }, t("duplicates.same_bytes")));
      zoom.layers([]);
      return;
    }
    const path = `page/api/difference/${state.one.id}/${state.other.id}/picture?gain=${state.gain}`;
    fill(stage, h("figure", { class: "duplicates-pane duplicates-dark" }, h("img", { class: "duplicates-layer", src: path, alt: t("duplicates.difference_of", { one: state.one.name, other: state.other.name }), draggable: "false" })));
    const gain = h("select", { "aria-label": t("duplicates.gain"), onchange: () => { state.gain = Number(gain.value); draw(); } }, GAINS.map((each) => h("option", { value: each, selected: each === state.gain }, `${each}×`)));
    fill(
      below,
      h("label", { class: "row" }, t("duplicates.gain"), gain),
      h("span", { class: "duplicates-legend" }, h("span", {}, "0"), h("span", { class: "duplicates-ramp", "aria-hidden": "true" }), h("span", {}, t("duplicates.and_more", { value: Math.round(255 / state.gain) }))),
    );
    zoom.layers(stage.querySelectorAll(".duplicates-layer"));
  }

  /** The figures of a pair; they take a moment, and stay for as long as the pair is looked at. */
  async function measure() {
    const turn = ++state.turn;
    told.setAttribute("aria-busy", "true");
    if (state.one.id === state.other.id) {
      fill(told, h("p", { class: "hint" }, t("duplicates.same_bytes")));
      told.removeAttribute("aria-busy");
      return;
    }
    try {
      const found = await get(`difference/${state.one.id}/${state.other.id}`);
      if (turn === state.turn) fill(told, say(found));
    } catch (error) {
      if (turn === state.turn) fill(told, h("p", { class: "hint" }, error.message));
    }
    if (turn === state.turn) told.removeAttribute("aria-busy");
  }

  return {
    element,
    show(one, other) {
      const pair = `${one.key} ${other.key} ${mode()}`;
      if (pair === state.pair) return;
      const another = one.id !== state.one?.id || other.id !== state.other?.id;
      Object.assign(state, { one, other, pair });
      if (another) zoom.fit();
      draw();
      if (another) measure();
    },
    next() {
      const next = MODES[(MODES.indexOf(mode()) + 1) % MODES.length];
      go({ mode: next === "side" ? null : next }, { replace: true });
    },
  };
}

/** Tell where on a pane a pointer is dragged, 0 to 1, while the picture is not zoomed. */
function dragged(pane, tell, zoom) {
  const share = (event) => {
    const box = pane.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  };
  pane.addEventListener("pointerdown", (event) => { if (!event.button && !zoom.isNear()) tell(share(event)); });
  pane.addEventListener("pointermove", (event) => { if (event.buttons & 1 && !zoom.isNear()) tell(share(event)); });
}

const large = (file) => `page/api/picture/${file.id}/large?side=1600`;

function say(found) {
  const { figures, better } = found;
  const who = (which) => (which === null ? t("duplicates.neither") : t(which ? "duplicates.other" : "duplicates.keeps"));
  const facts = [
    [t("duplicates.mean"), `${number(figures.mean, 2)} / 255`],
    ["PSNR", figures.psnr_db === null ? "∞" : `${number(figures.psnr_db, 1)} dB`],
    ["SSIM", number(figures.ssim, 4)],
    [t("duplicates.changed_pixels"), `${number(figures.changed * 100, 1)} %`],
    [t("duplicates.sharper"), who(better.sharper)],
    [t("duplicates.larger"), who(better.pixels)],
    [t("duplicates.older"), who(better.older)],
    [t("duplicates.more_exif"), who(better.exif)],
  ];
  return [
    h("dl", { class: "duplicates-measures" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    h("p", { class: "hint" }, laid(found)),
    tags(t("duplicates.lost"), found.lost),
    tags(t("duplicates.gained"), found.gained),
  ];
}

function laid(found) {
  const values = { width: found.width, height: found.height };
  const [left, top, right, bottom] = found.part;
  const part = Math.round((right - left) * (bottom - top) * 100);
  return [
    t("duplicates.laid", values),
    found.part_of && t(found.part_of === "one" ? "duplicates.part_one" : "duplicates.part_other", { part }),
    found.mirrored && t("duplicates.mirrored"),
    found.stretched && t("duplicates.stretched"),
  ].filter(Boolean).join(" ");
}

function tags(title, names) {
  if (!names.length) return null;
  return h("details", { class: "duplicates-tags" }, h("summary", {}, `${title}: ${number(names.length)}`), h("p", {}, names.join(", ")));
}
