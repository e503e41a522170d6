// A picture in a frame that can be looked at closely: wheel, pinch, drag, double click; keys are the view's own.

const MOST = 16; // pixels of the screen a pixel of the picture
const MOST_FITTED = 3; // a small picture is enlarged so far to fill its frame
const STEP = 1.4;
const SWIPE = 60;

/**
 * Make what is in `layer` zoomable inside `frame`. The layer is sized, not scaled: lines and letters on it stay as they are.
 * `onChange(scale)` is told pixels of the screen a pixel of the picture; `onSwipe(1 or -1)` of a finger across a whole picture.
 * Returns {size(width, height), fit(), by(factor), actual(), move(x, y), isFitted(), scale()}.
 */
export function zoomable(frame, layer, { onChange = () => {}, onSwipe = () => {} } = {}) {
  const state = { width: 1, height: 1, scale: 1, x: 0, y: 0, fitted: true };
  const box = () => ({ width: frame.clientWidth || 1, height: frame.clientHeight || 1 });
  const fitting = () => Math.min(box().width / state.width, box().height / state.height, MOST_FITTED);

  const place = () => {
    const room = box();
    const width = state.width * state.scale;
    const height = state.height * state.scale;
    state.x = within(state.x, room.width, width);
    state.y = within(state.y, room.height, height);
    const style = layer.style;
    style.setProperty("width", `${width}px`);
    style.setProperty("height", `${height}px`);
    style.setProperty("transform", `translate(${state.x}px, ${state.y}px)`);
    frame.classList.toggle("is-zoomed", !state.fitted);
    onChange(state.scale);
  };

  const fit = () => {
    state.fitted = true;
    state.scale = fitting();
    place();
  };

  /** To a scale, so that what is at (x, y) of the frame stays there. */
  const to = (scale, x = box().width / 2, y = box().height / 2) => {
    const least = fitting();
    const next = Math.min(Math.max(scale, least), Math.max(MOST, least));
    const ratio = next / state.scale;
    state.x = x - (x - state.x) * ratio;
    state.y = y - (y - state.y) * ratio;
    state.scale = next;
    state.fitted = next <= least * 1.001;
    place();
  };

  const move = (x, y) => {
    state.x += x;
    state.y += y;
    place();
  };

  const zoom = {
    size(width, height) {
      Object.assign(state, { width: width || 1, height: height || 1 });
      fit();
    },
    fit,
    by: (factor, x, y) => to(state.scale * factor, x, y),
    closer: () => to(state.scale * STEP),
    farther: () => to(state.scale / STEP),
    actual: () => to(1 / devicePixelRatio),
    move,
    to,
    isFitted: () => state.fitted,
    scale: () => state.scale,
  };
  new ResizeObserver(() => (state.fitted ? fit() : place())).observe(frame);
  listen(frame, zoom, onSwipe);
  return zoom;
}

/** In the middle where it is smaller than its room, else without a gap at either side. */
function within(start, room, size) {
  return size <= room ? (room - size) / 2 : Math.min(0, Math.max(room - size, start));
}

function listen(frame, zoom, onSwipe) {
  const at = (event) => {
    const edge = frame.getBoundingClientRect();
    return [event.clientX - edge.left, event.clientY - edge.top];
  };
  frame.addEventListener(
    "wheel",
    (event) => {
      if (event.deltaY > 0 && zoom.isFitted()) return; // nothing to do: the page scrolls
      event.preventDefault();
      const lines = event.deltaMode === 1 ? 16 : 1;
      zoom.by(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0016)), ...at(event));
    },
    { passive: false },
  );
  frame.addEventListener("dblclick", (event) => {
    if (event.target.closest("a, button")) return;
    if (zoom.isFitted()) zoom.to(Math.max(1, zoom.scale() * 2.5), ...at(event));
    else zoom.fit();
  });
  drags(frame, zoom, onSwipe, at);
}

/** One pointer moves, two pinch; a click that was a drag is none. */
function drags(frame, zoom, onSwipe, at) {
  const down = new Map(); // pointer -> its place
  let moved = 0;
  let began = [0, 0];
  frame.addEventListener("pointerdown", (event) => {
    if (event.button || event.target.closest("button")) return;
    down.set(event.pointerId, at(event));
    if (down.size === 1) [moved, began] = [0, at(event)];
  });
  frame.addEventListener("pointermove", (event) => {
    const before = down.get(event.pointerId);
    if (!before) return;
    const now = at(event);
    moved = Math.max(moved, Math.hypot(now[0] - began[0], now[1] - began[1]));
    if (moved > 4 && !frame.hasPointerCapture(event.pointerId)) frame.setPointerCapture(event.pointerId);
    const other = [...down].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const wider = distance(now, other) / Math.max(1, distance(before, other));
      zoom.by(wider, (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
      moved = 99;
    } else if (!zoom.isFitted()) zoom.move(now[0] - before[0], now[1] - before[1]);
    down.set(event.pointerId, now);
  });
  const up = (event) => {
    const last = down.get(event.pointerId);
    down.delete(event.pointerId);
    setTimeout(() => down.size || (moved = 0)); // after the click that may follow
    if (!last || event.type !== "pointerup" || event.pointerType === "mouse" || !zoom.isFitted() || down.size || moved === 99) return;
    const [x, y] = [last[0] - began[0], last[1] - began[1]];
    if (Math.abs(x) > SWIPE && Math.abs(x) > 2 * Math.abs(y)) onSwipe(x < 0 ? 1 : -1);
  };
  for (const name of ["pointerup", "pointercancel"]) frame.addEventListener(name, up);
  const stop = (event) => {
    if (moved > 4) {
      event.preventDefault();
      event.stopPropagation();
    }
  };
  frame.addEventListener("click", stop, { capture: true });
  frame.addEventListener("dragstart", (event) => event.preventDefault());
}

const distance = (one, other) => Math.hypot(one[0] - other[0], one[1] - other[1]);
