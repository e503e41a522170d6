// The view "atlas": all pictures as points, the alike near each other; colored, lassoed, tagged, exported.

import { get as parameter, go, href, selection } from "../core/address.js";
import { announce, fill, h } from "../core/dom.js";
import { editingBar } from "../core/editing.js";
import { onKey } from "../core/keys.js";
import { notice } from "../core/notice.js";
import { css, plain } from "../core/palette.js";
import { scatter } from "../core/scatter.js";
import { get, thumbnail } from "../core/server.js";
import { t, tn } from "../core/texts.js";
import { isDark } from "../core/theme.js";
import { loadColors, loadItems, loadPoints, loadSelected } from "./atlas/data.js";
import { paint, showLegend } from "./atlas/legend.js";
import { follow, make, showMethods } from "./atlas/making.js";
import { saving, showPicked } from "./atlas/picked.js";
import { watch } from "./atlas/watching.js";

const HERE = "atlas";

/** Build the view in a section; `known` is what the server told of itself. */
export function mount(section, known) {
  const state = { known, about: null, points: null, colors: null, mask: null, picked: null, only: new Set(), job: null, turn: 0, box: "" };
  build(section, state);
  addEventListener("imagelake:theme", () => repaint(state));
  onKey("l", t("atlas.lasso"), () => parameter("view") === HERE && setLasso(state, state.plot.state.mode !== "lasso"));
  onKey("Escape", t("atlas.clear"), () => parameter("view") === HERE && state.picked ? pick(state, []) : false);
  const look = watch(state, { shown: () => !section.hidden, moved: () => moved(state), changed: () => changed(state, !section.hidden) });
  return { update: async () => { await update(state); look(); } };
}

function build(section, state) {
  const stage = h("div", { class: "atlas-stage" });
  state.card = h("a", { class: "atlas-card", hidden: true, href: "?" });
  state.loading = h("p", { class: "atlas-loading hint", role: "status", hidden: true }, t("atlas.loading"));
  state.frame = section;
  state.empty = h("div", { class: "atlas-empty card", hidden: true });
  state.sets = h("select", { "aria-label": t("atlas.set"), onchange: (event) => go({ set: event.target.value, box: null }) });
  state.methods = h("div", { class: "atlas-methods", role: "group", "aria-label": t("atlas.method") });
  state.offer = h("span", { class: "row atlas-offer" });
  state.column = h("select", { "aria-label": t("atlas.color"), onchange: (event) => go({ color: event.target.value || null, only: null }) });
  state.lasso = h("button", { type: "button", "aria-pressed": "false", title: t("atlas.lassohint"), onclick: () => setLasso(state, state.plot.state.mode !== "lasso") }, t("atlas.lasso"));
  state.photos = h("button", { type: "button", "aria-pressed": "true", onclick: () => setPhotos(state, !state.plot.showPictures) }, t("atlas.photos"));
  state.told = h("p", { class: "hint atlas-told" });
  state.legend = h("div", { class: "atlas-legend" });
  state.all = h("button", { type: "button", class: "atlas-all", hidden: true, onclick: () => pickBright(state) }, t("atlas.pickbright"));
  state.list = h("section", { class: "atlas-picked", "aria-label": t("atlas.pickedlabel"), hidden: true });
  state.whole = h("span", {});
  const zoom = (name, sign, work) => h("button", { type: "button", "aria-label": t(`atlas.${name}`), title: t(`atlas.${name}`), onclick: work }, sign);
  const bar = editingBar(state.known);
  section.append(
    h("h1", { class: "visually-hidden" }, t("core.atlas")),
    h("div", { class: "row atlas-tools" }, state.sets, state.methods, state.offer, h("span", { class: "spring" }),
      h("label", { class: "row" }, h("span", { class: "atlas-word" }, t("atlas.color")), state.column), state.photos, state.lasso),
    h("div", { class: "atlas-frame" },
      h("div", { class: "atlas-plane" }, stage, state.card, state.loading, state.empty,
        h("div", { class: "atlas-zoom" }, zoom("closer", "+", () => state.plot.zoomAt(1.6)), zoom("wider", "−", () => state.plot.zoomAt(1 / 1.6)), zoom("fit", "⤢", () => state.plot.fit()))),
      h("aside", { class: "atlas-side", "aria-label": t("atlas.legend") }, state.told, state.list, state.legend, h("div", { class: "row" }, state.all, state.whole))),
    bar,
  );
  state.plot = scatter(stage, events(state), parameter("renderer"));
  stage.dataset.renderer = state.plot.renderer.kind;
}

const events = (state) => ({
  label: t("atlas.canvas"),
  hover: (i, x, y) => showCard(state, i, x, y),
  pick: (i, touch) => { if (!touch) open(state, i); },
  nothing: () => showCard(state, -1),
  lasso: (found, more) => pick(state, more && state.picked ? [...state.picked, ...found] : found),
  moved: () => keepBox(state),
  resized: () => { if (state.points && state.plot?.state.fitted) state.plot.fit(); },
  picture: (i) => thumbnail(state.points.id(i)),
  color: (i) => css([...state.plot.state.rgba.subarray(4 * i, 4 * i + 3)]),
});

async function update(state) {
  const turn = ++state.turn;
  try {
    if (!state.about?.sets.length) await learn(state);
    if (!state.about.sets.length) return showEmpty(state);
    const asked = { set: parameter("set") || state.about.set, method: parameter("method") || favorite(state) };
    if (asked.set !== state.set && state.set) await learn(state, asked.set);
    await choosePoints(state, asked, turn);
    if (turn !== state.turn || !state.points) return;
    await Promise.all([chooseColors(state), chooseMask(state)]);
    if (turn !== state.turn) return;
    readOnly(state);
    repaint(state);
    tell(state);
    const box = parameter("box");
    if (box !== state.box) {
      state.box = box;
      box ? state.plot.setBox(box) : state.plot.fit();
    }
    state.tried = false;
  } catch (error) {
    if (turn !== state.turn) return;
    if (error.changed && !state.tried) {
      state.tried = true;
      return update(state);
    }
    notice(error.message);
  }
}

async function learn(state, set) {
  state.about = await get("atlas/about", set ? { set } : undefined);
  fill(state.sets, state.about.sets.map(({ name }) => h("option", { value: name }, name)));
  state.sets.hidden = state.about.sets.length < 2;
  fill(state.column, h("option", { value: "" }, t("atlas.plain")), state.about.columns.map(({ name }) => h("option", { value: name }, columnName(name))));
  if (state.about.job?.state === "running" && !state.job) follow(state, state.about.job, () => again(state)).catch((error) => notice(error.message));
}

/** UMAP where it is made, for it shows more; PCA is always there. */
const favorite = (state) => (state.about.methods.find(({ name, made }) => name === "umap" && made) ? "umap" : "pca");

function columnName(name) {
  const known = t(`atlas.column_${name}`);
  return known === `atlas.column_${name}` ? name.replaceAll("_", " ") : known;
}

async function choosePoints(state, { set, method }, turn) {
  const made = state.about.methods.find(({ name }) => name === method)?.made;
  const shown = method === "pca" || made ? method : "pca";
  const changed = set !== state.set || shown !== state.method || !state.points || state.outdated;
  Object.assign(state, { set, asked: method });
  state.sets.value = set;
  showMethods(state.methods, state, (name) => go({ method: name, box: null }), () => again(state));
  if (!changed) return;
  state.loading.hidden = Boolean(state.points);
  const points = await loadPoints(set, shown).finally(() => { state.loading.hidden = true; });
  if (turn !== state.turn) return;
  if (points.job) return follow(state, points.job, () => again(state));
  Object.assign(state, { method: shown, points, drawn: set, outdated: false, colors: null, column0: null, masked: null, picked: null });
  state.plot.state.rgba = new Uint8Array(0);
  state.plot.setPoints(points.places);
  state.box = null;
  fill(state.whole, saving(state, null));
  showPicked(state.list, state, () => {});
  state.empty.hidden = points.count > 0;
  state.frame.classList.toggle("is-empty", !points.count);
  if (!points.count) showEmpty(state);
}

/** After a map was made: everything anew. */
async function again(state) {
  state.outdated = true;
  await learn(state, state.set);
  await update(state);
}

/** The points are others: they are shown, and what was picked stays so. */
async function moved(state) {
  const picked = state.picked && new Set([...state.picked].map(state.points.id));
  await again(state);
  if (!picked || state.picked || !state.points) return;
  const found = [];
  for (let i = 0; i < state.points.count; i++) if (picked.has(state.points.id(i))) found.push(i);
  if (found.length) pick(state, found);
}

/** Tags or labels are others: colors and what the address selects are asked for anew. */
async function changed(state, shown) {
  Object.assign(state, { column0: null, masked: null });
  if (shown && state.points) await update(state);
}

async function chooseColors(state) {
  const column = parameter("color", "");
  state.column.value = column;
  if (column === state.column0) return;
  state.colors = column ? await loadColors(state.set, state.method, column) : null;
  stale(state, state.colors);
  state.column0 = column;
}

async function chooseMask(state) {
  const asked = selection();
  asked.delete("sort");
  if (asked.toString() === state.masked) return;
  const found = await loadSelected(state.set, state.method);
  stale(state, found);
  state.mask = found;
  state.masked = asked.toString();
}

/** The lake changed between two answers: what was asked first is asked again. */
function stale(state, found) {
  if (!found || found.mark === state.points.mark) return;
  state.outdated = true;
  throw Object.assign(new Error(t("atlas.changed")), { changed: true });
}

function readOnly(state) {
  state.only = new Set(parameter("only").split(",").filter(Boolean).map(Number));
}

function toggleOnly(state, code) {
  const next = new Set(state.only);
  next.has(code) ? next.delete(code) : next.add(code);
  go({ only: [...next].join(",") || null });
}

function repaint(state) {
  if (!state.points) return;
  state.plot.setColors(paint({ count: state.points.count, colors: state.colors, plain: plain(isDark()), mask: state.mask?.mask, only: state.only, picked: state.picked }));
  const focused = document.activeElement?.dataset?.code;
  showLegend(state.legend, state.colors, state.only, (code) => toggleOnly(state, code));
  if (focused !== undefined) state.legend.querySelector(`[data-code="${focused}"]`)?.focus();
  state.plot.pictures.choose();
}

function tell(state) {
  const { count, total, kept, outgrown } = state.points;
  const able = state.about.methods.find(({ name }) => name === state.method)?.available;
  const clear = {};
  for (const name of selection().keys()) if (name !== "sort") clear[name] = null;
  fill(
    state.told,
    count < total ? t("atlas.placed", { count, total }) : tn("atlas.count", count),
    state.mask && [" ", t("atlas.selected", { count: state.mask.count }), " ", h("a", { href: href(clear) }, t("atlas.showall"))],
    !kept && [" ", t("atlas.notkept")],
    outgrown && able && h("button", { type: "button", class: "atlas-again", onclick: () => make(state, state.method, () => again(state)) }, t("atlas.makeagain")),
    state.about.region_sets.length > 0 && h("span", { class: "atlas-regions" }, t("atlas.regions", { sets: state.about.region_sets.join(", ") })),
  );
  state.all.hidden = !state.mask && !state.only.size;
}

function pick(state, found) {
  state.picked = found.length ? new Set(found) : null;
  if (!found.length) announce(t("atlas.none"));
  repaint(state);
  showPicked(state.list, state, () => pick(state, []));
}

function pickBright(state) {
  const found = [];
  for (let i = 0; i < state.points.count; i++) {
    if ((!state.mask || state.mask.mask[i]) && (!state.only.size || !state.colors?.codes || state.only.has(state.colors.codes[i]))) found.push(i);
  }
  pick(state, found);
}

function setLasso(state, on) {
  state.plot.setMode(on ? "lasso" : "move");
  state.lasso.setAttribute("aria-pressed", String(on));
}

function setPhotos(state, on) {
  state.plot.showPictures = on;
  state.photos.setAttribute("aria-pressed", String(on));
  state.plot.pictures.choose();
  state.plot.draw();
}

function keepBox(state) {
  if (parameter("view") !== HERE || !state.points) return;
  const box = state.plot.state.fitted ? "" : state.plot.box();
  if (state.box === null || box === state.box) return;
  state.box = box;
  go({ box: box || null }, { replace: true });
}

async function open(state, i) {
  const id = state.points.id(i);
  const [item] = await loadItems([id]).catch(() => []);
  go({ view: "picture", id: item?.id || id });
}

/** The picture of the point that the pointer is on, beside it. */
async function showCard(state, i, x = 0, y = 0) {
  const { card } = state;
  card.hidden = i < 0;
  if (i < 0) return;
  const id = state.points.id(i);
  const { width, height } = state.plot.state;
  card.style.setProperty("left", `${x > width / 2 ? x - 196 : x + 16}px`);
  card.style.setProperty("top", `${Math.min(Math.max(y - 60, 4), Math.max(height - 190, 4))}px`);
  if (card.dataset.id === id) return;
  card.dataset.id = id;
  card.setAttribute("href", href({ view: "picture", id }));
  const name = h("span", { class: "atlas-cardname" });
  fill(card, h("img", { src: thumbnail(id), alt: "" }), name);
  await new Promise((done) => setTimeout(done, 60)); // a pointer that passes by asks for no name
  if (card.dataset.id !== id || card.hidden) return;
  const [item] = await loadItems([id]).catch(() => []);
  if (item && card.dataset.id === id) name.textContent = item.name;
}

function showEmpty(state) {
  state.empty.hidden = false;
  state.frame.classList.add("is-empty");
  fill(state.empty, h("h2", {}, t("atlas.empty")), h("p", {}, t("atlas.emptyhint")), h("code", {}, `imagelake extract --lake ${state.known.name || "LAKE"}`));
}
