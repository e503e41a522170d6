// Points without WebGL: written into the pixels of a picture, since drawing each as a circle would take too long.

const SLOW_MS = 14;

/** What draws on a canvas: {kind, points(places), colors(rgba), draw(view)}. */
export function flatRenderer(canvas) {
  const context = canvas.getContext("2d");
  let places = new Float32Array(0);
  let tints = new Uint8Array(0);
  let picture = null;
  let step = 1; // while moving, each so many-th point
  return {
    kind: "2d",
    points: (xy) => { places = xy; },
    colors: (rgba) => { tints = rgba; },
    draw(view) {
      if (!canvas.width || !canvas.height) return;
      if (!picture || picture.width !== canvas.width || picture.height !== canvas.height) picture = context.createImageData(canvas.width, canvas.height);
      const began = performance.now();
      picture.data.fill(0);
      for (const bright of [false, true]) (view.moving ? dash : scatter)(picture, places, tints, view, bright, step);
      context.putImageData(picture, 0, 0);
      const took = performance.now() - began;
      if (view.moving) step = took > SLOW_MS ? Math.min(step * 2, 32) : took < SLOW_MS / 3 ? Math.max(step / 2, 1) : step;
    },
  };
}

function scatter(picture, places, tints, { x, y, scale, ratio, size }, bright) {
  const { width, height, data } = picture;
  const spots = disc(size * ratio);
  const [zoom, left, top] = [scale * ratio, width / 2, height / 2];
  for (let i = 0; i < places.length / 2; i++) {
    if (tints[4 * i + 3] > 127 !== bright) continue;
    const column = Math.round(left + (places[2 * i] - x) * zoom);
    const row = Math.round(top - (places[2 * i + 1] - y) * zoom);
    if (column < -20 || row < -20 || column > width + 20 || row > height + 20) continue;
    for (let at = 0; at < spots.length; at += 3) {
      const across = column + spots[at];
      const down = row + spots[at + 1];
      if (across >= 0 && down >= 0 && across < width && down < height) blend(data, 4 * (down * width + across), tints, 4 * i, spots[at + 2]);
    }
  }
}

/** While moving: squares that cover what is below them, one number a pixel. */
function dash(picture, places, tints, { x, y, scale, ratio, size }, bright, step) {
  const { width, height } = picture;
  const pixels = new Uint32Array(picture.data.buffer);
  const colors = new Uint32Array(tints.buffer, tints.byteOffset, tints.length / 4);
  const side = Math.max(1, Math.round(size * ratio * 0.9));
  const [zoom, left, top] = [scale * ratio, (width - side) / 2, (height - side) / 2];
  for (let i = 0; i < colors.length; i += step) {
    if (tints[4 * i + 3] > 127 !== bright) continue;
    const column = Math.round(left + (places[2 * i] - x) * zoom);
    const row = Math.round(top - (places[2 * i + 1] - y) * zoom);
    if (column < 0 || row < 0 || column + side > width || row + side > height) continue;
    for (let down = row; down < row + side; down++) pixels.fill(colors[i], down * width + column, down * width + column + side);
  }
}

/** One pixel under one more layer, colors not multiplied by their opacity. */
function blend(data, to, tints, from, share) {
  const over = (tints[from + 3] / 255) * share;
  const under = (data[to + 3] / 255) * (1 - over);
  const both = over + under;
  if (both <= 0) return;
  for (let channel = 0; channel < 3; channel++) data[to + channel] = (tints[from + channel] * over + data[to + channel] * under) / both;
  data[to + 3] = 255 * both;
}

/** The pixels of a round spot: [across, down, share, ...]. */
function disc(size) {
  const found = [];
  const radius = size / 2;
  const most = Math.ceil(radius);
  for (let down = -most; down <= most; down++) {
    for (let across = -most; across <= most; across++) {
      const share = Math.min(1, radius + 0.5 - Math.hypot(across, down));
      if (share > 0.05) found.push(across, down, share);
    }
  }
  return found;
}
