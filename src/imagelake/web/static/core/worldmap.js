// A map of the world on a canvas, without tiles and without a network: land, borders, names; pan and zoom.

import { fill, h } from "./dom.js";
import { mapInput } from "./mapinput.js";
import { country, t } from "./texts.js";
import { isDark } from "./theme.js";
import { loadWorld, toLatitude, toLongitude, toX, toY } from "./worlddata.js";

const TILE = 256; // pixels of the world at zoom 0
const MOST_ZOOM = 18;
const PAD = 110; // pixels that are left free around what is fitted
const LEVELS = [3.1, 5.6]; // from these zooms on, the next level of detail
const LIGHT = { sea: "#cbdce6", land: "#f6f4ee", line: "#b9b4a6", grid: "rgb(40 70 90 / 10%)", text: "#4b5157", halo: "#f6f4ee", pin: "#b3261e", mark: "#0f766e", onMark: "#ffffff", paper: "#ffffff" };
const DARK = { sea: "#12191f", land: "#2b3138", line: "#525b66", grid: "rgb(200 220 240 / 7%)", text: "#c3cad2", halo: "#2b3138", pin: "#ff8a80", mark: "#4fd1c5", onMark: "#06201d", paper: "#eef1f4" };

/** The colors of the theme that is on. */
export const palette = () => (isDark() ? DARK : LIGHT);

/**
 * A map in an element, as large as that.
 *
 * Options: `label` (for screen readers), `paint(context, map)` draws over it, `onMove(view, settled)`, `onTap(point,
 * event)`, `onHover(point | null)` with point in pixels, `onRectangle({west, south, east, north})`, `wheel: "ctrl"`
 * leaves the plain wheel to the page, `still` takes no part in dragging and keys.
 *
 * Gives {element, canvas, width, height, view(), setView({latitude, longitude, zoom}), fit(bounds), zoomBy(steps, point),
 * panBy(pixels), place(x, y) -> pixels, spots(x, y, margin) -> [pixels] of each copy in view,
 * window() -> what is in view in world units, at(pixels) -> {latitude, longitude}, bounds(), draw(), rectangle(on), end()}. It
 * ends by itself when the element is taken out of the page.
 */
export function worldMap(element, options = {}) {
  const canvas = h("canvas", { class: "worldmap-canvas", tabindex: options.still ? null : "0", role: options.still ? "img" : "application", "aria-label": options.label || t("map.canvas") });
  const map = { element, canvas, options, width: 0, height: 0, x: 0.5, y: 0.42, zoom: 1, world: null, box: null, asked: 0 };
  element.classList.add("worldmap");
  fill(element, canvas, buttons(map));
  Object.assign(map, {
    view: () => ({ latitude: toLatitude(map.y), longitude: toLongitude(map.x), zoom: map.zoom }),
    setView: (view) => setView(map, view),
    fit: (bounds, most) => fit(map, bounds, most),
    zoomBy: (steps, point) => zoomBy(map, steps, point),
    panBy: (dx, dy) => moveTo(map, map.x - dx / size(map), map.y - dy / size(map), map.zoom),
    place: (x, y) => [(nearest(map, x) - map.x) * size(map) + map.width / 2, (y - map.y) * size(map) + map.height / 2],
    spots: (x, y, margin) => spots(map, x, y, margin),
    window: () => {
      const { x: [left, right], y: [top, bottom] } = inView(map, Math.floor(map.x - map.width / 2 / size(map)));
      return { left, right, top, bottom };
    },
    at: ([px, py]) => placeOf(map, px, py),
    bounds: () => bounds(map),
    settle: () => options.onMove?.(map.view(), true),
    draw: () => (map.asked ||= requestAnimationFrame(() => draw(map))),
  });
  if (!options.still) mapInput(map);
  const watcher = new ResizeObserver(() => (map.width && !element.isConnected ? map.end() : resize(map)));
  watcher.observe(element);
  addEventListener("imagelake:theme", map.draw);
  map.end = () => {
    watcher.disconnect();
    removeEventListener("imagelake:theme", map.draw);
  };
  loadWorld().then((world) => {
    map.world = world;
    map.draw();
  });
  resize(map);
  return map;
}

/** A small map with one place on it, to zoom with its buttons: smallMap(element, 53.5, 10). Gives the map. */
export function smallMap(element, latitude, longitude, { zoom = 3.5 } = {}) {
  const paint = (context, map) => {
    const [x, y] = map.place(toX(longitude), toY(latitude));
    context.beginPath();
    context.arc(x, y, 7, 0, 2 * Math.PI);
    context.fillStyle = palette().pin;
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = "#fff";
    context.stroke();
  };
  const label = t("map.place", { latitude: latitude.toFixed(4), longitude: longitude.toFixed(4) });
  const map = worldMap(element, { label, paint, wheel: "ctrl" });
  map.setView({ latitude, longitude, zoom });
  return map;
}

const size = (map) => TILE * 2 ** map.zoom;

/** The x nearest to the middle that is the same place. */
const nearest = (map, x) => x + Math.round(map.x - x);

/** Where a point of the world is in view: once for each copy of the world. */
function spots(map, x, y, margin) {
  const py = (y - map.y) * size(map) + map.height / 2;
  if (py < -margin || py > map.height + margin) return [];
  const found = [];
  const half = (map.width / 2 + margin) / size(map);
  for (let turn = Math.ceil(map.x - half - x); x + turn <= map.x + half; turn++) {
    found.push([(x + turn - map.x) * size(map) + map.width / 2, py]);
  }
  return found;
}

function buttons(map) {
  const button = (steps, text, label) =>
    h("button", { type: "button", "aria-label": label, title: label, onclick: () => { zoomBy(map, steps); map.settle(); } }, text);
  return h("div", { class: "worldmap-buttons" }, button(1, "+", t("map.zoom_in")), button(-1, "−", t("map.zoom_out")));
}

function resize(map) {
  const { clientWidth: width, clientHeight: height } = map.element;
  if (!width || !height) return;
  const ratio = Math.min(window.devicePixelRatio || 1, 3);
  Object.assign(map, { width, height, ratio });
  map.canvas.width = Math.round(width * ratio);
  map.canvas.height = Math.round(height * ratio);
  if (map.waiting) {
    const work = map.waiting;
    map.waiting = null;
    work();
  }
  moveTo(map, map.x, map.y, map.zoom);
  cancelAnimationFrame(map.asked);
  draw(map); // at once: a canvas that changed its size is empty
}

/** Move, within what there is to see. */
function moveTo(map, x, y, zoom) {
  const least = Math.log2(Math.max(map.height, 1) / TILE);
  map.zoom = Math.max(least, Math.min(MOST_ZOOM, zoom));
  const half = map.height / 2 / size(map);
  map.x = x - Math.floor(x);
  map.y = Math.max(half, Math.min(1 - half, y));
  map.draw();
  map.options.onMove?.(map.view(), false);
}

function setView(map, { latitude, longitude, zoom }) {
  if (!map.width) map.waiting = () => setView(map, { latitude, longitude, zoom });
  moveTo(map, toX(longitude), toY(latitude), zoom);
}

function zoomBy(map, steps, [px, py] = [map.width / 2, map.height / 2]) {
  const [x, y] = unplace(map, px, py);
  const zoom = Math.max(Math.log2(map.height / TILE), Math.min(MOST_ZOOM, map.zoom + steps));
  const scale = 2 ** (map.zoom - zoom);
  moveTo(map, x + (map.x - x) * scale, y + (map.y - y) * scale, zoom);
}

/** Show all of {west, south, east, north}; west may be larger than east: across the date line. */
function fit(map, box, most = 12) {
  if (!map.width) {
    map.waiting = () => fit(map, box, most);
    return;
  }
  const left = toX(box.west);
  const right = toX(box.east) + (box.east < box.west ? 1 : 0);
  const [top, bottom] = [toY(box.north), toY(box.south)];
  const zoom = Math.min(
    Math.log2(Math.max(map.width - PAD, 40) / TILE / Math.max(right - left, 1e-9)),
    Math.log2(Math.max(map.height - PAD, 40) / TILE / Math.max(bottom - top, 1e-9)),
    most,
  );
  moveTo(map, (left + right) / 2, (top + bottom) / 2, zoom);
}

/** World units of a pixel; x is not brought back into 0 to 1. */
function unplace(map, px, py) {
  return [map.x + (px - map.width / 2) / size(map), map.y + (py - map.height / 2) / size(map)];
}

function placeOf(map, px, py) {
  const [x, y] = unplace(map, px, py);
  return { latitude: toLatitude(y), longitude: toLongitude(x) };
}

/** What is in view, in degrees. */
function bounds(map) {
  const [left, top] = unplace(map, 0, 0);
  const [right, bottom] = unplace(map, map.width, map.height);
  const whole = right - left >= 1;
  return { west: whole ? -180 : toLongitude(left), east: whole ? 180 : toLongitude(right), south: toLatitude(bottom), north: toLatitude(top) };
}

function draw(map) {
  map.asked = 0;
  if (!map.width) return;
  const context = map.canvas.getContext("2d", { alpha: false });
  const colors = palette();
  context.setTransform(map.ratio, 0, 0, map.ratio, 0, 0);
  context.fillStyle = colors.sea;
  context.fillRect(0, 0, map.width, map.height);
  if (map.world) for (const turn of turns(map)) drawWorld(map, context, turn, colors);
  context.setTransform(map.ratio, 0, 0, map.ratio, 0, 0);
  drawGrid(map, context, colors);
  if (map.world) drawNames(map, context, colors);
  map.options.paint?.(context, map);
  if (map.box) drawBox(context, map.box);
}

/** The copies of the world that are in view, as whole numbers. */
function turns(map) {
  const half = map.width / 2 / size(map);
  const found = [];
  for (let turn = Math.floor(map.x - half); turn <= Math.floor(map.x + half); turn++) found.push(turn);
  return found;
}

function drawWorld(map, context, turn, colors) {
  const scale = size(map);
  const { x: [left, right], y: [top, bottom] } = inView(map, turn);
  const seen = (each) => each.left < right && each.right > left && each.top < bottom && each.bottom > top;
  const r = map.ratio;
  context.setTransform(r * scale, 0, 0, r * scale, r * ((turn - map.x) * scale + map.width / 2), r * (map.height / 2 - map.y * scale));
  const level = map.world.levels[LEVELS.filter((from) => map.zoom >= from).length];
  context.fillStyle = context.strokeStyle = colors.land;
  context.lineWidth = 0.8 / scale; // so that blocks meet without a gap, and small islands can be seen
  for (const block of level.filter(seen)) {
    context.fill(block.path, "evenodd");
    context.stroke(block.path);
  }
  context.strokeStyle = colors.line;
  context.lineWidth = (map.zoom < 4 ? 0.7 : 1) / scale;
  for (const line of map.world.borders.filter(seen)) context.stroke(line.path);
}

function inView(map, turn) {
  const scale = size(map);
  const x = map.x - turn;
  return { x: [x - map.width / 2 / scale, x + map.width / 2 / scale], y: [map.y - map.height / 2 / scale, map.y + map.height / 2 / scale] };
}

function drawGrid(map, context, colors) {
  const step = [30, 15, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01].find((each) => (each / 360) * size(map) < 240) || 0.005;
  const [left, top] = unplace(map, 0, 0);
  const [right, bottom] = unplace(map, map.width, map.height);
  context.beginPath();
  for (let each = Math.ceil(((left - 0.5) * 360) / step); each * step <= (right - 0.5) * 360; each++) {
    const px = Math.round((toX(each * step) - left) * size(map)) + 0.5;
    context.moveTo(px, 0);
    context.lineTo(px, map.height);
  }
  for (let each = Math.ceil(toLatitude(bottom) / step); each * step <= toLatitude(top); each++) {
    const py = Math.round((toY(each * step) - top) * size(map)) + 0.5;
    context.moveTo(0, py);
    context.lineTo(map.width, py);
  }
  context.strokeStyle = colors.grid;
  context.lineWidth = 1;
  context.stroke();
}

/** Names of countries where there is room for them: the roomiest first, none over another. */
function drawNames(map, context, colors) {
  const taken = [];
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineJoin = "round";
  context.lineWidth = 3;
  for (const turn of turns(map)) {
    for (const { code, x, y, width } of map.world.countries) {
      const room = width * size(map);
      if (room < 26 || !code) continue;
      const px = (x + turn - map.x) * size(map) + map.width / 2;
      const py = (y - map.y) * size(map) + map.height / 2;
      if (px < -100 || px > map.width + 100 || py < -20 || py > map.height + 20) continue;
      const name = country(code);
      context.font = `${room > 300 ? 14 : 12}px system-ui, sans-serif`;
      const half = context.measureText(name).width / 2;
      if (half * 2 > room * 1.5 && map.zoom < 7) continue;
      if (taken.some((other) => Math.abs(other.px - px) < other.half + half + 6 && Math.abs(other.py - py) < 18)) continue;
      taken.push({ px, py, half });
      context.strokeStyle = colors.halo;
      context.strokeText(name, px, py);
      context.fillStyle = colors.text;
      context.fillText(name, px, py);
    }
  }
}

function drawBox(context, { left, top, right, bottom }) {
  context.fillStyle = "rgb(79 209 197 / 18%)";
  context.strokeStyle = "#0f766e";
  context.lineWidth = 2;
  context.fillRect(left, top, right - left, bottom - top);
  context.strokeRect(left, top, right - left, bottom - top);
}
