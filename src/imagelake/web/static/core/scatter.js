// A plane of points that is moved, zoomed and lassoed: WebGL 2 where the machine has it, a plain canvas where not.

import { h } from "./dom.js";
import { flatRenderer } from "./scatter_2d.js";
import { canUseGl, glRenderer } from "./scatter_gl.js";
import { indexOf } from "./scatter_index.js";
import { listen } from "./scatter_input.js";
import { pictures } from "./scatter_pictures.js";

const PADDING = 44;
const CLOSEST = 1e7;
const REST_MS = 140;
const NEAR = 14; // pixels from a point that still mean it

/**
 * Put a scatter into an element. `events`: {label, hover(i, x, y), pick(i, touch), lasso([i]), moved(), picture(i) -> address,
 * color(i) -> css}. `renderer`: "" (the best there is), "webgl" (also a slow one), "2d".
 */
export function scatter(element, events, renderer = "") {
  const canvas = h("canvas", { class: "scatter-points", "aria-hidden": "true" });
  const over = h("canvas", { class: "scatter-over", tabindex: "0", role: "img", "aria-label": events.label });
  element.append(canvas, over);
  const state = { points: new Float32Array(0), rgba: new Uint8Array(0), index: indexOf(new Float32Array(0)), x: 0.5, y: 0.5, scale: 400, width: 0, height: 0, ratio: 1, line: null, mode: "move", marked: -1, moving: false };
  const self = { state, canvas, over, events, renderer: null, showPictures: true };
  self.renderer = renderer !== "2d" && canUseGl(renderer === "webgl") ? glRenderer(canvas, () => replace(self)) : flatRenderer(canvas);
  self.pictures = pictures(self, () => self.draw());
  self.draw = onceAFrame(() => paint(self));
  self.rest = restful(self);
  self.setPoints = (xy) => setPoints(self, xy);
  self.setColors = (rgba) => {
    state.rgba = rgba;
    self.renderer.colors(rgba);
    self.draw();
  };
  self.fit = () => fit(self);
  self.box = () => box(state);
  self.setBox = (text) => setBox(self, text);
  self.moveBy = (across, down) => moveTo(self, state.x - across / state.scale, state.y + down / state.scale, state.scale);
  self.zoomAt = (factor, x = state.width / 2, y = state.height / 2) => zoomAt(self, factor, x, y);
  self.pointAt = (x, y) => pointAt(self, x, y);
  self.toPlane = (x, y) => [state.x + (x - state.width / 2) / state.scale, state.y - (y - state.height / 2) / state.scale];
  self.toScreen = (i) => [state.width / 2 + (state.points[2 * i] - state.x) * state.scale, state.height / 2 - (state.points[2 * i + 1] - state.y) * state.scale];
  self.isBright = (i) => state.rgba[4 * i + 3] > 127;
  self.inLine = (line) => state.index.inside(line.map(([x, y]) => self.toPlane(x, y))).filter(self.isBright);
  self.visible = (most = Infinity) => visible(self, most);
  self.setMode = (mode) => { state.mode = mode; over.dataset.mode = mode; };
  self.setMode("move");
  listen(self);
  new ResizeObserver(() => resize(self, element)).observe(element);
  resize(self, element);
  return self;
}

/** Into the unit square, y upwards, both axes alike; one point lies in the middle. */
export function intoSquare(xy) {
  let [left, bottom, right, top] = [Infinity, Infinity, -Infinity, -Infinity];
  for (let i = 0; i < xy.length; i += 2) {
    left = Math.min(left, xy[i]);
    right = Math.max(right, xy[i]);
    bottom = Math.min(bottom, xy[i + 1]);
    top = Math.max(top, xy[i + 1]);
  }
  const span = Math.max(right - left, top - bottom) || 1;
  const found = new Float32Array(xy.length);
  for (let i = 0; i < xy.length; i += 2) {
    found[i] = 0.5 + (xy[i] - (left + right) / 2) / span;
    found[i + 1] = 0.5 + (xy[i + 1] - (bottom + top) / 2) / span;
  }
  return found;
}

function setPoints(self, xy) {
  const { state } = self;
  state.points = xy;
  state.index = indexOf(xy);
  state.marked = -1;
  let [left, bottom, right, top] = [1, 1, 0, 0];
  for (let i = 0; i < xy.length; i += 2) {
    [left, right] = [Math.min(left, xy[i]), Math.max(right, xy[i])];
    [bottom, top] = [Math.min(bottom, xy[i + 1]), Math.max(top, xy[i + 1])];
  }
  state.extent = xy.length ? [left, bottom, right, top] : [0, 0, 1, 1];
  self.pictures.forget();
  self.renderer.points(xy);
  self.draw();
}

function fit(self) {
  const { state } = self;
  const [left, bottom, right, top] = state.extent || [0, 0, 1, 1];
  const room = (pixels, span) => Math.max(pixels - 2 * PADDING, 40) / Math.max(span, 1e-3);
  const scale = Math.min(room(state.width, right - left), room(state.height, top - bottom));
  moveTo(self, (left + right) / 2, (bottom + top) / 2, scale, true);
}

function moveTo(self, x, y, scale, fitted = false) {
  const { state } = self;
  state.fitted = fitted; // it goes on to show all when the window changes
  state.scale = Math.min(Math.max(scale, 20), CLOSEST);
  state.x = Math.min(Math.max(x, -0.5), 1.5);
  state.y = Math.min(Math.max(y, -0.5), 1.5);
  self.rest();
  self.draw();
}

function zoomAt(self, factor, x, y) {
  const { state } = self;
  const [px, py] = self.toPlane(x, y);
  const scale = Math.min(Math.max(state.scale * factor, 20), CLOSEST);
  moveTo(self, px - (x - state.width / 2) / scale, py + (y - state.height / 2) / scale, scale);
}

/** What an address keeps: the middle, and how much of the plane fits into the shorter side. */
function box({ x, y, scale, width, height }) {
  const digits = Math.max(3, Math.ceil(Math.log10(scale)));
  return [x, y, Math.min(width, height) / scale].map((value) => Number(value.toFixed(digits))).join(",");
}

function setBox(self, text) {
  const [x, y, span] = String(text).split(",").map(Number);
  if (![x, y, span].every(Number.isFinite) || span <= 0) return self.fit();
  moveTo(self, x, y, Math.min(self.state.width, self.state.height) / span);
}

function pointAt(self, x, y) {
  const picture = self.pictures.at(x, y);
  if (picture >= 0) return picture;
  const [px, py] = self.toPlane(x, y);
  const { state } = self;
  return state.index.nearest(px, py, (NEAR / 2 + size(state) / 2) / state.scale, self.isBright);
}

/** The points that can be seen, those that are dim left out. */
function visible(self, most) {
  const { state } = self;
  const found = [];
  const [left, top] = self.toPlane(0, 0);
  const [right, bottom] = self.toPlane(state.width, state.height);
  state.index.inBox(left, bottom, right, top, (i) => {
    if (self.isBright(i)) found.push(i);
    return found.length < most;
  });
  return found;
}

/** Pixels across a point: smaller where there are many, larger where one looks closely. */
function size({ points, scale, width, height }) {
  const room = Math.sqrt((Math.max(width, 1) * Math.max(height, 1)) / Math.max(points.length / 2, 1));
  const close = Math.max(1, (scale / Math.max(Math.min(width, height), 1)) ** 0.4);
  return Math.min(Math.max(room * 0.28 * close, 2.6), 12);
}

function paint(self) {
  const { state } = self;
  if (!state.width || state.rgba.length !== 2 * state.points.length) return;
  self.renderer.draw({ ...state, size: size(state) });
  const context = self.over.getContext("2d");
  context.setTransform(state.ratio, 0, 0, state.ratio, 0, 0);
  context.clearRect(0, 0, state.width, state.height);
  self.pictures.draw(context);
  const style = getComputedStyle(self.over);
  if (state.marked >= 0) ring(context, self.toScreen(state.marked), size(state), style.color);
  if (state.line) outline(context, state.line, style.getPropertyValue("--accent"));
}

function ring(context, [x, y], across, color) {
  context.strokeStyle = color;
  context.lineWidth = 2;
  context.beginPath();
  context.arc(x, y, across / 2 + 4, 0, 2 * Math.PI);
  context.stroke();
}

function outline(context, line, color) {
  context.beginPath();
  line.forEach(([x, y], at) => (at ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.closePath();
  context.globalAlpha = 0.14;
  context.fillStyle = color;
  context.fill("evenodd");
  context.globalAlpha = 1;
  context.strokeStyle = color;
  context.lineWidth = 1.5;
  context.stroke();
}

function resize(self, element) {
  const { state } = self;
  const [width, height] = [element.clientWidth, element.clientHeight];
  if (!width || !height || (width === state.width && height === state.height)) return;
  if (state.width) state.scale *= Math.min(width, height) / Math.min(state.width, state.height);
  Object.assign(state, { width, height, ratio: Math.min(devicePixelRatio || 1, 2) });
  for (const canvas of [self.canvas, self.over]) {
    canvas.width = Math.round(width * state.ratio);
    canvas.height = Math.round(height * state.ratio);
  }
  self.events.resized?.();
  self.draw();
}

/** The graphics card is gone: go on without it. */
function replace(self) {
  const canvas = h("canvas", { class: "scatter-points", "aria-hidden": "true" });
  canvas.width = self.canvas.width;
  canvas.height = self.canvas.height;
  self.canvas.replaceWith(canvas);
  self.canvas = canvas;
  self.renderer = flatRenderer(canvas);
  self.renderer.points(self.state.points);
  self.renderer.colors(self.state.rgba);
  self.draw();
}

function onceAFrame(work) {
  let asked = 0;
  return () => {
    asked ||= requestAnimationFrame(() => {
      asked = 0;
      work();
    });
  };
}

/** While it moves, and once it rests. */
function restful(self) {
  let timer = 0;
  return () => {
    self.state.moving = true;
    clearTimeout(timer);
    timer = setTimeout(() => {
      self.state.moving = false;
      self.pictures.choose();
      self.events.moved();
      self.draw();
    }, REST_MS);
  };
}
