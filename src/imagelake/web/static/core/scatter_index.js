// Which points are where: a grid over the unit square, for what the pointer is on and what a lasso holds.

/**
 * An index of points, Float32Array of x, y in 0 to 1, one pair a point.
 * {inBox(left, bottom, right, top, visit), nearest(x, y, radius, passes), inside(polygon)}
 */
export function indexOf(points) {
  const count = points.length / 2;
  const side = Math.max(1, Math.min(512, Math.ceil(Math.sqrt(count / 4))));
  const cell = (value) => Math.min(side - 1, Math.max(0, Math.floor(value * side)));
  const starts = new Uint32Array(side * side + 1);
  for (let i = 0; i < count; i++) starts[cell(points[2 * i + 1]) * side + cell(points[2 * i]) + 1]++;
  for (let i = 0; i < side * side; i++) starts[i + 1] += starts[i];
  const next = starts.slice();
  const members = new Uint32Array(count);
  for (let i = 0; i < count; i++) members[next[cell(points[2 * i + 1]) * side + cell(points[2 * i])]++] = i;

  /** Call `visit(i)` for each point in a box; one that returns false ends it. */
  function inBox(left, bottom, right, top, visit) {
    if (right < 0 || left > 1 || top < 0 || bottom > 1) return;
    for (let row = cell(bottom); row <= cell(top); row++) {
      for (let at = starts[row * side + cell(left)]; at < starts[row * side + cell(right) + 1]; at++) {
        const i = members[at];
        const x = points[2 * i];
        const y = points[2 * i + 1];
        if (x >= left && x <= right && y >= bottom && y <= top && visit(i) === false) return;
      }
    }
  }

  /** The nearest point within a radius for which `passes(i)`, or -1. */
  function nearest(x, y, radius, passes) {
    let best = -1;
    let least = radius * radius;
    inBox(x - radius, y - radius, x + radius, y + radius, (i) => {
      const far = (points[2 * i] - x) ** 2 + (points[2 * i + 1] - y) ** 2;
      if (far <= least && passes(i)) [best, least] = [i, far];
    });
    return best;
  }

  /** The points inside a closed line [[x, y], ...], by the even-odd rule, ascending. */
  function inside(polygon) {
    if (polygon.length < 3) return [];
    const xs = polygon.map(([x]) => x);
    const ys = polygon.map(([, y]) => y);
    const found = [];
    inBox(least(xs), least(ys), most(xs), most(ys), (i) => {
      if (holds(polygon, points[2 * i], points[2 * i + 1])) found.push(i);
    });
    return found.sort((a, b) => a - b);
  }

  return { inBox, nearest, inside };
}

const least = (values) => values.reduce((a, b) => Math.min(a, b));
const most = (values) => values.reduce((a, b) => Math.max(a, b));

function holds(polygon, x, y) {
  let odd = false;
  for (let i = 0, before = polygon.length - 1; i < polygon.length; before = i++) {
    const [x1, y1] = polygon[i];
    const [x2, y2] = polygon[before];
    if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) odd = !odd;
  }
  return odd;
}
