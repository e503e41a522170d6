// Zoom and move several layers of one size together: wheel, drag, pinch, double click.

const MOST = 24;

/** Zooms what `layers(some)` names inside `stage`. Returns {layers, by(factor), fit(), isNear()}. */
export function together(stage) {
  const state = { layers: [], scale: 1, x: 0, y: 0 };
  const down = new Map(); // pointer -> its place

  function place() {
    const box = state.layers[0]?.parentElement.getBoundingClientRect() || { width: 1, height: 1 };
    const [roomX, roomY] = [box.width * (state.scale - 1), box.height * (state.scale - 1)];
    state.x = Math.min(0, Math.max(-roomX, state.x));
    state.y = Math.min(0, Math.max(-roomY, state.y));
    for (const each of state.layers) {
      each.style.setProperty("transform", `translate(${state.x}px, ${state.y}px) scale(${state.scale})`);
      each.classList.toggle("is-near", state.scale > 3);
    }
    stage.classList.toggle("is-zoomed", state.scale > 1);
  }

  function by(factor, at = null) {
    const box = state.layers[0]?.parentElement.getBoundingClientRect();
    if (!box) return;
    const [x, y] = at || [box.width / 2, box.height / 2];
    const next = Math.min(MOST, Math.max(1, state.scale * factor));
    const ratio = next / state.scale;
    Object.assign(state, { scale: next, x: x - (x - state.x) * ratio, y: y - (y - state.y) * ratio });
    place();
  }

  function fit() {
    Object.assign(state, { scale: 1, x: 0, y: 0 });
    place();
  }

  const paneOf = (event) => event.target.closest?.(".duplicates-pane");
  const at = (event) => {
    const box = (paneOf(event) || stage).getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  stage.addEventListener("wheel", (event) => {
    if (!paneOf(event) || (event.deltaY > 0 && state.scale <= 1)) return;
    event.preventDefault();
    by(Math.exp(-event.deltaY * (event.deltaMode === 1 ? 16 : 1) * 0.002), at(event));
  }, { passive: false });
  stage.addEventListener("dblclick", (event) => (state.scale > 1 ? fit() : by(3, at(event))));
  stage.addEventListener("pointerdown", (event) => { if (!event.button && paneOf(event)) down.set(event.pointerId, [event.clientX, event.clientY]); });
  stage.addEventListener("pointermove", (event) => {
    const before = down.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    const other = [...down].find(([id]) => id !== event.pointerId)?.[1];
    const far = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
    if (other) by(far(now, other) / Math.max(1, far(before, other)), at(event));
    else if (state.scale > 1) {
      if (!stage.hasPointerCapture(event.pointerId)) stage.setPointerCapture(event.pointerId);
      state.x += now[0] - before[0];
      state.y += now[1] - before[1];
      place();
    }
    down.set(event.pointerId, now);
  });
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) stage.addEventListener(name, (event) => down.delete(event.pointerId));
  new ResizeObserver(place).observe(stage);
  return {
    by,
    fit,
    isNear: () => state.scale > 1,
    layers(some) {
      state.layers = [...some];
      place();
    },
  };
}
