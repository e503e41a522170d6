// The view "picture": one image, large, and beside it all that the lake knows of it.

import { get as parameter, go, href, onChange, selection } from "../core/address.js";
import { announce, fill, h } from "../core/dom.js";
import { onKey } from "../core/keys.js";
import { remember, remembered } from "../core/memory.js";
import { get } from "../core/server.js";
import { number, t } from "../core/texts.js";
import { figures, file, metadata, taken } from "./picture/facts.js";
import { near, predictions, regions } from "./picture/found.js";
import { lineage } from "./picture/lineage.js";
import { largeOf, stage } from "./picture/stage.js";
import { tags } from "./picture/tags.js";
import { copy } from "./picture/words.js";

const SECTIONS = ["taken", "tags", "similar", "copies", "regions", "predictions", "figures", "file", "metadata", "lineage"];
const SHOWN = "regions";

/** Build the view in a section; `known` is what the server told of itself. */
export function mount(section, known) {
  const state = { id: "", beside: {}, list: "browse", regions: remembered(SHOWN) !== "no" };
  const large = stage({ onSwipe: (step) => step_to(step), onScale: (scale) => { percent.textContent = `${number(scale * devicePixelRatio * 100)} %`; } });
  const percent = h("span", { class: "picture-percent", "aria-hidden": "true" });
  const place = h("span", { class: "picture-position" });
  const back = h("a", { class: "button picture-back", href: "?" }, "←", h("span", {}, t("picture.back")));
  const before = h("a", { class: "picture-turn is-before", "aria-label": t("picture.previous"), title: t("picture.previous") }, "‹");
  const after = h("a", { class: "picture-turn is-after", "aria-label": t("picture.next"), title: t("picture.next") }, "›");
  const name = h("h1", { class: "picture-name" });
  const actions = h("div", { class: "row picture-actions" });
  const parts = Object.fromEntries(SECTIONS.map((part) => [part, h("section", { class: `picture-part is-${part}` })]));
  const panel = h("aside", { class: "picture-panel", "aria-label": t("picture.about") }, h("header", {}, name, actions), Object.values(parts));
  const gone = h("div", { class: "picture-gone", hidden: true });
  const toggle = h("button", { class: "picture-toggle", "aria-pressed": "true", onclick: () => showRegions(!state.regions) }, t("picture.show_regions"));
  const bar = h(
    "div",
    { class: "picture-bar", role: "toolbar", "aria-label": t("picture.tools") },
    back,
    place,
    h("span", { class: "spring" }),
    percent,
    tool("−", "picture.farther", () => large.zoom.farther()),
    tool("+", "picture.closer", () => large.zoom.closer()),
    tool("⤢", "picture.whole", () => large.zoom.fit()),
  );
  fill(section, h("div", { class: "picture-stage" }, bar, large.element, before, after), panel, gone);
  for (const [link, step] of [[before, -1], [after, 1]]) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      step_to(step);
    });
  }
  const came = document.querySelector("main > section:not([hidden]):not(.view-picture)")?.className.match(/view-(\w+)/)?.[1];
  if (came) state.list = came;
  onChange(() => { if (parameter("view") !== "picture") state.list = parameter("view") || "browse"; });
  listenKeys(section, { large, step_to, back, regions: () => showRegions(!state.regions) });
  addEventListener("imagelake:again", () => { if (!section.hidden) show(state.id); });
  addEventListener("imagelake:tags", () => { if (!section.hidden) get(`picture/${state.id}`).then((picture) => tagsOf(picture)).catch(() => {}); });

  function tagsOf(picture) {
    if (picture.id === state.id) tags(parts.tags, picture, known);
  }

  function showRegions(on) {
    state.regions = on;
    remember(SHOWN, on ? "" : "no");
    toggle.setAttribute("aria-pressed", String(on));
    large.regions(on);
  }

  function step_to(step) {
    const id = step < 0 ? state.beside.previous : state.beside.next;
    if (id) go({ id }, { replace: true });
  }

  /** What the picture is about: everything but what must be searched for. */
  function tell(picture) {
    document.title = `${picture.name} · imagelake`;
    name.textContent = picture.name;
    fill(actions, buttons(picture));
    taken(parts.taken, picture);
    tags(parts.tags, picture, known);
    regions(parts.regions, picture, large.look, toggle);
    predictions(parts.predictions, picture);
    figures(parts.figures, picture);
    file(parts.file, picture);
    metadata(parts.metadata, picture);
    lineage(parts.lineage, picture);
    large.tell(picture);
    showRegions(state.regions);
  }

  async function turn(id) {
    const query = selection();
    query.set("id", id);
    const found = await get("browse/neighbors", query).catch(() => ({}));
    if (id !== state.id) return;
    state.beside = found;
    place.textContent = Number.isInteger(found.position) ? t("picture.position", { place: found.position + 1, total: found.total }) : "";
    for (const [link, other] of [[before, found.previous], [after, found.next]]) {
      link.hidden = !other;
      if (other) link.href = href({ id: other });
    }
    large.ahead([found.next, found.previous].filter(Boolean));
  }

  async function show(id) {
    state.id = id;
    large.show(id);
    panel.scrollTop = 0;
    let picture;
    try {
      picture = await get(`picture/${encodeURIComponent(id)}`);
    } catch (error) {
      if (id === state.id) missing(error.message);
      return;
    }
    if (id !== state.id) return;
    missing("");
    tell(picture);
    announce(picture.name);
    turn(id); // nobody waits for these: what is there can be read
    near(parts.similar, parts.copies, picture, () => id === state.id);
  }

  function missing(why) {
    gone.hidden = !why;
    for (const each of [panel, large.element.parentElement]) each.hidden = Boolean(why);
    if (why) fill(gone, h("h1", {}, t("picture.missing")), h("p", {}, why), h("a", { class: "button", href: back.getAttribute("href") }, t("picture.back")));
  }

  return {
    update() {
      back.setAttribute("href", href({ view: state.list, id: null }));
      const id = parameter("id");
      return id === state.id && gone.hidden ? turn(id) : show(id);
    },
  };
}

function tool(sign, key, work) {
  return h("button", { class: "picture-tool", onclick: work, "aria-label": t(key), title: t(key) }, sign);
}

function buttons(picture) {
  const form = picture.file?.format?.toUpperCase() || "";
  const shown = `${picture.name.replace(/\.[^.]*$/, "")}.jpg`;
  return [
    h("a", { class: "button", href: `page/api/picture/${picture.id}/original`, download: "" }, t("picture.download", { format: form })),
    h("a", { class: "button", href: largeOf(picture.id, 2400), download: shown }, t("picture.download_shown")),
    h("button", { onclick: () => copy(new URL(`?view=picture&id=${picture.id}`, location.href).href) }, t("picture.copy_link")),
    h("a", { class: "button", href: href({ view: "search", id: null, like: picture.id, box: null }) }, t("picture.more_like")),
  ];
}

/** The keys work while the view is shown. */
function listenKeys(section, { large, step_to, back, regions: toggle }) {
  const table = [
    ["ArrowLeft", "previous", () => (large.zoom.isFitted() ? step_to(-1) : large.zoom.move(80, 0))],
    ["ArrowRight", "next", () => (large.zoom.isFitted() ? step_to(1) : large.zoom.move(-80, 0))],
    ["ArrowUp", "up", () => (large.zoom.isFitted() ? false : large.zoom.move(0, 80))],
    ["ArrowDown", "down", () => (large.zoom.isFitted() ? false : large.zoom.move(0, -80))],
    ["+", "closer", () => large.zoom.closer()],
    ["-", "farther", () => large.zoom.farther()],
    ["0", "whole", () => large.zoom.fit()],
    ["1", "actual", () => large.zoom.actual()],
    ["r", "show_regions", () => toggle()],
    ["Escape", "back", () => (large.zoom.isFitted() ? back.click() : large.zoom.fit())],
  ];
  let registered = [];
  const change = () => {
    for (const forget of registered) forget();
    registered = section.hidden ? [] : table.map(([key, text, work]) => onKey(key, t(`picture.${text}`), () => (document.querySelector("dialog[open]") ? false : work())));
  };
  new MutationObserver(change).observe(section, { attributes: true, attributeFilter: ["hidden"] });
  change();
}
