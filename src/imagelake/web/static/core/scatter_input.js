// Mouse, fingers and keys on a scatter: drag to move, wheel or two fingers to zoom, Shift for a rectangle, a lasso.

const STEP = 60;
const CLICK = 5; // pixels that a click may move
const NEXT = 3; // pixels from one corner of a lasso to the next

/** Listen on the upper canvas of a scatter. */
export function listen(self) {
  const { over } = self;
  const fingers = new Map();
  const hand = { kind: "", from: null, far: 0, pinch: 0 };
  over.addEventListener("pointerdown", (event) => down(self, fingers, hand, event));
  over.addEventListener("pointermove", (event) => move(self, fingers, hand, event));
  for (const name of ["pointerup", "pointercancel"]) over.addEventListener(name, (event) => up(self, fingers, hand, event));
  over.addEventListener("pointerleave", (event) => { if (!hand.kind && event.pointerType !== "touch") mark(self, -1); });
  over.addEventListener("wheel", (event) => wheel(self, event), { passive: false });
  over.addEventListener("dblclick", (event) => self.zoomAt(2, ...place(self, event)));
  over.addEventListener("keydown", (event) => key(self, event));
}

function down(self, fingers, hand, event) {
  if (event.button) return;
  const at = place(self, event);
  self.over.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, at);
  if (fingers.size === 2) {
    Object.assign(hand, { kind: "pinch", pinch: apart(fingers) });
    self.state.line = null;
    return;
  }
  hand.kind = event.shiftKey ? "box" : self.state.mode === "lasso" ? "lasso" : "move";
  Object.assign(hand, { from: at, far: 0 });
  if (hand.kind !== "move") self.state.line = [at];
}

function move(self, fingers, hand, event) {
  const at = place(self, event);
  if (!fingers.has(event.pointerId)) return mark(self, event.pointerType === "touch" ? -1 : self.pointAt(...at), at);
  const before = fingers.get(event.pointerId);
  fingers.set(event.pointerId, at);
  if (hand.kind === "pinch") return pinch(self, fingers, hand, before, at);
  hand.far = Math.max(hand.far, Math.hypot(at[0] - hand.from[0], at[1] - hand.from[1]));
  if (hand.far > CLICK) mark(self, -1);
  if (hand.kind === "move" && hand.far > CLICK) self.moveBy(at[0] - before[0], at[1] - before[1]);
  if (hand.kind === "box") self.state.line = corners(hand.from, at);
  if (hand.kind === "lasso") extend(self.state.line, at);
  self.draw();
}

function up(self, fingers, hand, event) {
  if (!fingers.delete(event.pointerId)) return;
  const { kind, far } = hand;
  if (fingers.size) { // one of two fingers went
    Object.assign(hand, { kind: "move", from: [...fingers.values()][0], far: CLICK + 1 });
    return;
  }
  hand.kind = "";
  const line = self.state.line;
  self.state.line = null;
  self.draw();
  if (event.type === "pointercancel" || kind === "pinch") return;
  if (line && far > CLICK) self.events.lasso(self.inLine(line), event.ctrlKey || event.metaKey);
  else if (far <= CLICK) click(self, event);
}

function click(self, event) {
  const at = place(self, event);
  const found = self.pointAt(...at);
  const touch = event.pointerType === "touch";
  if (touch) mark(self, found, at);
  if (found >= 0) self.events.pick(found, touch);
  else self.events.nothing();
}

/** The point that the pointer is on. */
function mark(self, found, at = [0, 0]) {
  if (found === self.state.marked && found < 0) return;
  self.state.marked = found;
  self.over.dataset.over = found >= 0 ? "point" : "";
  self.events.hover(found, ...at);
  self.draw();
}

function pinch(self, fingers, hand, before, at) {
  const now = apart(fingers);
  const [one, two] = [...fingers.values()];
  self.zoomAt(now / Math.max(hand.pinch, 1), (one[0] + two[0]) / 2, (one[1] + two[1]) / 2);
  self.moveBy((at[0] - before[0]) / 2, (at[1] - before[1]) / 2);
  hand.pinch = now;
}

function wheel(self, event) {
  event.preventDefault();
  const lines = event.deltaMode === 1 ? 20 : event.deltaMode === 2 ? 200 : 1;
  self.zoomAt(Math.exp(-Math.min(Math.max(event.deltaY * lines, -240), 240) * (event.ctrlKey ? 0.01 : 0.002)), ...place(self, event));
}

function key(self, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const work = {
    ArrowLeft: () => self.moveBy(STEP, 0), ArrowRight: () => self.moveBy(-STEP, 0),
    ArrowUp: () => self.moveBy(0, STEP), ArrowDown: () => self.moveBy(0, -STEP),
    "+": () => self.zoomAt(1.4), "=": () => self.zoomAt(1.4), "-": () => self.zoomAt(1 / 1.4), 0: () => self.fit(),
  }[event.key];
  if (!work) return;
  event.preventDefault();
  event.stopPropagation();
  work();
}

function place(self, event) {
  const { left, top } = self.over.getBoundingClientRect();
  return [event.clientX - left, event.clientY - top];
}

function extend(line, at) {
  const last = line[line.length - 1];
  if (Math.hypot(at[0] - last[0], at[1] - last[1]) >= NEXT) line.push(at);
}

const corners = ([x1, y1], [x2, y2]) => [[x1, y1], [x2, y1], [x2, y2], [x1, y2]];

function apart(fingers) {
  const [one, two] = [...fingers.values()];
  return Math.hypot(one[0] - two[0], one[1] - two[1]);
}
