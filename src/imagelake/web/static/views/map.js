// The view "map": the selected pictures where they were taken.

import { all, get as parameter, go, href, selection } from "../core/address.js";
import { fill, h, later } from "../core/dom.js";
import { onKey } from "../core/keys.js";
import { notice } from "../core/notice.js";
import { country, number, t, tn } from "../core/texts.js";
import { worldMap } from "../core/worldmap.js";
import { toX, toY } from "../core/worlddata.js";
import { sideList } from "./map/list.js";
import { markers } from "./map/markers.js";
import { around, boundsText, loadPoints, readBounds, within } from "./map/points.js";

const DEEP = 15; // from here on a marker is listed, not zoomed into
const CITY = 11; // the zoom of an address that gives none
const CLOSE = 24; // pixels; pictures that lie closer together are listed too
const WORLD = { west: -170, east: 190, south: -56, north: 74 };

/** Build the view in a section; `known` is what the server told of itself. */
export function mount(section, known) {
  const state = { known, points: null, markers: null, selected: null, at: "", listed: null, wanted: null };
  const place = h("div", { class: "map-world" });
  const list = h("aside", { class: "map-list", "aria-label": t("map.list") });
  state.chips = h("div", { class: "row map-chips" });
  state.told = h("div", { class: "map-told" });
  state.area = h("button", { type: "button", "aria-pressed": "false", onclick: () => drawArea(state) }, t("map.area"));
  const all_ = h("button", { type: "button", onclick: () => showAll(state) }, t("map.all"));
  section.append(
    h("h1", { class: "visually-hidden" }, t("core.map")),
    h("div", { class: "map-frame" }, place, h("div", { class: "map-tools row" }, all_, state.area), state.told),
    h("div", { class: "map-side" }, state.chips, list),
  );
  state.list = sideList(list);
  const relist = later(150, () => showList(state));
  const remember = later(250, () => rememberView(state));
  state.map = worldMap(place, {
    paint: (context, map) => paint(state, context, map),
    onMove: (view, settled) => {
      if (!settled) return relist();
      state.listed = null;
      return [relist(), remember()];
    },
    onTap: (point) => tap(state, point),
    onHover: (point) => hover(state, point),
    onRectangle: (bounds) => chooseArea(state, bounds),
  });
  onKey("a", t("map.area"), () => parameter("view") === "map" && drawArea(state));
  return { update: () => update(state) };
}

async function update(state) {
  const asked = selection().toString();
  if (asked !== state.selected) await load(state, asked);
  const at = parameter("at");
  if (at && at !== state.at) {
    const [latitude, longitude, zoom = CITY] = at.split(",").map(Number);
    if ([latitude, longitude, zoom].every(Number.isFinite)) state.map.setView({ latitude, longitude, zoom });
  }
  state.at = at;
}

async function load(state, asked) {
  state.selected = asked;
  state.wanted?.abort();
  state.wanted = new AbortController();
  try {
    state.points = await loadPoints(selection(), state.wanted.signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    state.selected = null;
    notice(error.message);
    return;
  }
  state.listed = null;
  state.markers = markers(state.points);
  if (!parameter("at")) fitAll(state);
  fillChips(state);
  tell(state);
  state.map.draw();
  showList(state);
}

function fitAll(state) {
  state.map.fit(readBounds(parameter("f.bounds")) || around(state.points) || WORLD, 11);
}

function showAll(state) {
  fitAll(state);
  state.map.settle();
}

function rememberView(state) {
  if (parameter("view") !== "map") return;
  const { latitude, longitude, zoom } = state.map.view();
  const digits = Math.max(2, Math.min(6, Math.round(zoom / 3)));
  state.at = `${latitude.toFixed(digits)},${longitude.toFixed(digits)},${zoom.toFixed(2)}`;
  go({ at: state.at }, { replace: true });
}

function paint(state, context, map) {
  if (!state.points) return;
  for (const bounds of all().getAll("f.bounds").map(readBounds)) if (bounds) outline(context, map, bounds);
  state.markers.paint(context, map);
  map.canvas.dataset.drawn = state.markers.counts().reduce((sum, each) => sum + each, 0);
}

/** The area that the address has chosen. */
function outline(context, map, { west, south, east, north }) {
  const right = toX(east) + (east < west ? 1 : 0);
  const middle = (toX(west) + right) / 2;
  const [px] = map.place(middle, 0.5);
  const scale = map.place(middle + 0.001, 0.5)[0] - px;
  const half = ((right - toX(west)) / 2) * 1000 * scale;
  const [top, bottom] = [map.place(middle, toY(north))[1], map.place(middle, toY(south))[1]];
  context.setLineDash([6, 4]);
  context.lineWidth = 2;
  context.strokeStyle = "#0f766e";
  context.strokeRect(px - half, top, 2 * half, bottom - top);
  context.setLineDash([]);
}

function tap(state, point) {
  const cluster = state.markers?.hit(point);
  if (!cluster) return;
  const members = [...cluster.members()];
  if (members.length === 1) {
    rememberView(state);
    go({ view: "picture", id: state.points.id(members[0]) });
    return;
  }
  const box = around(state.points, members);
  const [left, top] = state.map.place(toX(box.west), toY(box.north));
  const [right, bottom] = state.map.place(toX(box.east), toY(box.south));
  const spread = Math.hypot(right - left, bottom - top) * 2 ** (DEEP - state.map.zoom);
  if (state.map.zoom >= DEEP || spread < CLOSE) {
    state.listed = { indexes: members, bounds: box };
    showList(state);
    return;
  }
  state.map.fit(box, DEEP);
  state.map.settle();
}

function hover(state, point) {
  const cluster = point && state.markers?.hit(point);
  state.map.canvas.classList.toggle("is-over", Boolean(cluster));
  if (state.markers?.hover(cluster || null)) state.map.draw();
}

function drawArea(state) {
  const on = state.area.getAttribute("aria-pressed") !== "true";
  state.area.setAttribute("aria-pressed", String(on));
  state.map.rectangle(on);
}

function chooseArea(state, bounds) {
  state.area.setAttribute("aria-pressed", "false");
  rememberView(state);
  go({ "f.bounds": boundsText(bounds) });
}

function showList(state) {
  if (!state.points || !state.map.width) return;
  const back = () => {
    state.listed = null;
    showList(state);
  };
  if (state.listed) state.list.show({ points: state.points, ...state.listed, onBack: back });
  else {
    const bounds = state.map.bounds();
    state.list.show({ points: state.points, indexes: within(state.points, bounds), bounds });
  }
}

/** What selects the pictures, each with a cross to leave it out. */
function fillChips(state) {
  const chips = [];
  const params = all();
  for (const name of new Set(params.keys())) {
    if (!["q", "where"].includes(name) && !name.startsWith("f.")) continue;
    const values = params.getAll(name);
    for (const value of values) {
      const changes = { [name]: values.filter((each) => each !== value) };
      const text = chipText(name, value);
      chips.push(h("a", { class: "chip", href: href(changes), "aria-label": t("map.without", { what: text }) }, text, h("span", { "aria-hidden": "true" }, "✕")));
    }
  }
  fill(state.chips, chips);
  state.chips.hidden = !chips.length;
}

function chipText(name, value) {
  if (name === "f.bounds") return t("map.chosen_area");
  if (name === "q") return `“${value}”`;
  if (name === "f.place" && /^[A-Z]{2}$/.test(value)) return country(value);
  return value;
}

/** How many pictures are on the map, and why others are not. */
function tell(state) {
  const { count, without, unnamed } = state.points;
  const command = (words) => h("code", {}, words);
  fill(
    state.told,
    h(
      "details",
      { open: !count },
      h("summary", {}, tn("map.placed", count), without ? ` · ${t("map.without_position", { count: number(without) })}` : ""),
      without > 0 && h("p", {}, t("map.why_not")),
      without > 0 && h("p", {}, h("a", { href: href({ view: "browse", "f.gps": "no", at: null }) }, t("map.show_without"))),
      unnamed > 0 && h("p", {}, tn("map.unnamed", unnamed), " ", command(`imagelake places --lake ${state.known.name}`)),
      h("p", { class: "hint" }, t("map.sources")),
    ),
  );
}
