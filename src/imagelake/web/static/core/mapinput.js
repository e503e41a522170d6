// What hands do to a map: drag, wheel, pinch, keys, and a rectangle drawn with Shift or with a tool.

const STEP = 120; // pixels that an arrow key moves
const TAP = 6; // pixels that a finger may slip
const ARROWS = { ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP] };

/** Listen on the map's canvas; adds `map.rectangle(on)`, which draws a rectangle with the next drag. */
export function mapInput(map) {
  const state = { pointers: new Map(), moved: 0, start: null, drawing: false, tool: false, speed: [0, 0], time: 0 };
  const { canvas } = map;
  map.rectangle = (on) => {
    state.tool = on;
    canvas.classList.toggle("is-drawing", on);
  };
  canvas.addEventListener("pointerdown", (event) => down(map, state, event));
  canvas.addEventListener("pointermove", (event) => move(map, state, event));
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => up(map, state, event));
  canvas.addEventListener("pointerleave", () => map.options.onHover?.(null));
  canvas.addEventListener("wheel", (event) => wheel(map, event), { passive: false });
  canvas.addEventListener("dblclick", (event) => {
    map.zoomBy(event.shiftKey ? -1 : 1, pointOf(map, event));
    map.settle();
  });
  canvas.addEventListener("keydown", (event) => key(map, event));
}

function pointOf(map, event) {
  const box = map.canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

function down(map, state, event) {
  if (event.button) return;
  map.canvas.setPointerCapture(event.pointerId);
  const point = pointOf(map, event);
  state.pointers.set(event.pointerId, point);
  state.moved = state.pointers.size > 1 ? TAP + 1 : 0;
  state.drawing = state.pointers.size === 1 && Boolean(map.options.onRectangle) && (event.shiftKey || state.tool);
  state.start = point;
  state.speed = [0, 0];
}

function move(map, state, event) {
  const point = pointOf(map, event);
  const before = state.pointers.get(event.pointerId);
  if (!before) {
    map.options.onHover?.(point);
    return;
  }
  state.pointers.set(event.pointerId, point);
  const [dx, dy] = [point[0] - before[0], point[1] - before[1]];
  state.moved = Math.max(state.moved, Math.hypot(point[0] - state.start[0], point[1] - state.start[1]));
  if (state.drawing) {
    map.box = boxOf(state.start, point);
    map.draw();
  } else if (state.pointers.size > 1) pinch(map, state, event.pointerId, before, point);
  else if (state.moved > TAP) {
    map.panBy(dx, dy);
    state.speed = [dx, dy];
    state.time = event.timeStamp;
  }
}

/** Two fingers: what was below them stays below them. */
function pinch(map, state, id, before, point) {
  const other = [...state.pointers].find(([each]) => each !== id)[1];
  const far = (a, b) => Math.max(Math.hypot(a[0] - b[0], a[1] - b[1]), 1);
  const middle = [(point[0] + other[0]) / 2, (point[1] + other[1]) / 2];
  map.panBy((point[0] - before[0]) / 2, (point[1] - before[1]) / 2);
  map.zoomBy(Math.log2(far(point, other) / far(before, other)), middle);
}

function up(map, state, event) {
  if (!state.pointers.delete(event.pointerId)) return;
  if (state.pointers.size) return;
  const point = pointOf(map, event);
  if (state.drawing) {
    state.drawing = false;
    finishBox(map);
  } else if (event.type === "pointerup" && state.moved <= TAP) map.options.onTap?.(point, event);
  else {
    if (event.timeStamp - state.time < 50 && !matchMedia("(prefers-reduced-motion: reduce)").matches) glide(map, state);
    map.settle();
  }
}

/** Go on a little after a quick drag. */
function glide(map, state) {
  const step = () => {
    state.speed = [state.speed[0] * 0.9, state.speed[1] * 0.9];
    if (state.pointers.size) return;
    if (Math.hypot(...state.speed) < 0.5) {
      map.settle();
      return;
    }
    map.panBy(...state.speed);
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

const boxOf = ([ax, ay], [bx, by]) => ({ left: Math.min(ax, bx), top: Math.min(ay, by), right: Math.max(ax, bx), bottom: Math.max(ay, by) });

function finishBox(map) {
  const box = map.box;
  map.box = null;
  map.draw();
  if (!box || box.right - box.left < TAP || box.bottom - box.top < TAP) return;
  map.rectangle(false);
  const [first, last] = [map.at([box.left, box.bottom]), map.at([box.right, box.top])];
  map.options.onRectangle({ west: first.longitude, south: first.latitude, east: last.longitude, north: last.latitude });
}

function wheel(map, event) {
  if (map.options.wheel === "ctrl" && !event.ctrlKey) return;
  event.preventDefault();
  const pixels = event.deltaY * (event.deltaMode === 1 ? 30 : event.deltaMode === 2 ? 300 : 1);
  map.zoomBy(-Math.max(-1, Math.min(1, pixels / (event.ctrlKey ? 60 : 240))), pointOf(map, event));
  map.settle();
}

function key(map, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (ARROWS[event.key]) map.panBy(...ARROWS[event.key]);
  else if (event.key === "+" || event.key === "=") map.zoomBy(1);
  else if (event.key === "-" || event.key === "_") map.zoomBy(-1);
  else if (event.key === "Escape" && map.box) map.box = null;
  else return;
  event.preventDefault();
  map.draw();
  map.settle();
}
