// Thumbnails at the points where they fit: one to a cell of the screen, loaded when the plane rests.

const [LEAST, MOST] = [42, 112]; // pixels of the longer side: more where fewer can be seen
const GAP = 8;
const KEPT = 500; // pictures in memory
const AT_ONCE = 6;
const STRONG = 200; // what is less bright is not picked while others are
const CROWD = 2500; // with more points to be seen there are only points

/** {choose(), draw(context), at(x, y) -> point or -1, forget()} */
export function pictures(self, changed) {
  const images = new Map(); // point -> {image, state}
  let shown = [];
  let side = LEAST;
  const waiting = new Set();
  let loading = 0;

  function load() {
    for (const i of waiting) {
      if (loading >= AT_ONCE) return;
      waiting.delete(i);
      loading += 1;
      const entry = { image: new Image(), ready: false };
      images.set(i, entry);
      const done = (ready) => {
        loading -= 1;
        entry.ready = ready;
        if (ready) changed();
        load();
      };
      entry.image.onload = () => done(true);
      entry.image.onerror = () => done(false);
      entry.image.src = self.events.picture(i);
    }
  }

  /** Which points have a picture now; those that had one keep it, so that nothing flickers. */
  function choose() {
    waiting.clear();
    const points = self.showPictures ? self.visible(CROWD + 1) : [];
    if (!points.length || points.length > CROWD) {
      shown = [];
      return;
    }
    const { width, height } = self.state;
    side = Math.min(Math.max(0.8 * Math.sqrt((width * height) / points.length), LEAST), MOST, width / 5);
    shown = spread(self, side + GAP, [...shown.filter((i) => self.isBright(i)), ...points.sort((a, b) => a - b)]);
    for (const i of shown) {
      const entry = images.get(i);
      if (entry) images.delete(i);
      if (entry) images.set(i, entry); // the newest last
      else waiting.add(i);
    }
    for (const i of images.keys()) {
      if (images.size <= KEPT) break;
      if (!shown.includes(i)) images.delete(i);
    }
    load();
  }

  function draw(context) {
    for (const i of shown) {
      const { image, ready } = images.get(i) || {};
      if (!ready || !self.isBright(i)) continue;
      const [left, top, width, height] = frame(self, i, image, side);
      context.globalAlpha = self.state.rgba[4 * i + 3] > STRONG ? 1 : 0.35;
      context.fillStyle = self.events.color(i);
      context.fillRect(left - 2, top - 2, width + 4, height + 4);
      context.drawImage(image, left, top, width, height);
    }
    context.globalAlpha = 1;
  }

  function at(x, y) {
    const found = shown.findLast((i) => {
      const { image, ready } = images.get(i) || {};
      if (!ready || !self.isBright(i)) return false;
      const [left, top, width, height] = frame(self, i, image, side);
      return x >= left && y >= top && x <= left + width && y <= top + height;
    });
    return found ?? -1;
  }

  function forget() {
    images.clear();
    waiting.clear();
    shown = [];
  }

  return { choose, draw, at, forget, shown: () => shown.filter((i) => images.get(i)?.ready) };
}

/** Points no two of which are so near on the screen that their pictures would touch. */
function spread(self, cell, points) {
  const taken = new Map();
  const found = [];
  const seen = new Set();
  for (const i of points) {
    if (seen.has(i)) continue;
    seen.add(i);
    const [x, y] = self.toScreen(i);
    if (x < 0 || y < 0 || x > self.state.width || y > self.state.height) continue;
    const [column, row] = [Math.floor(x / cell), Math.floor(y / cell)];
    let free = true;
    for (let down = row - 1; down <= row + 1 && free; down++) {
      for (let across = column - 1; across <= column + 1 && free; across++) {
        const other = taken.get(`${across} ${down}`);
        if (other && Math.abs(other[0] - x) < cell && Math.abs(other[1] - y) < cell) free = false;
      }
    }
    if (!free) continue;
    taken.set(`${column} ${row}`, [x, y]);
    found.push(i);
  }
  return found;
}

function frame(self, i, image, side) {
  const [x, y] = self.toScreen(i);
  const share = side / Math.max(image.naturalWidth, image.naturalHeight, 1);
  const [width, height] = [image.naturalWidth * share, image.naturalHeight * share];
  return [x - width / 2, y - height / 2, width, height];
}
