// Points gathered into clusters for one zoom: a grid in typed arrays, then neighbours that lie too close become one.

const CELL = 64; // pixels
const NEAR = 52; // pixels between two clusters at least
const WORLD = { left: 0, right: 1, top: 0, bottom: 1 };
const KEPT = 4; // zooms whose clusters are remembered

/**
 * Clusters of points by whole zoom: clusters(zoom, view) -> {size, x(i), y(i), count(i), first(i), members(i)}; x and y
 * from 0 to 1, `first` the least index of its points, `members` all of them, ascending. `view` is {left, right, top,
 * bottom}, left from 0 to 1: only what lies around it is clustered; without it, all points are.
 */
export function clusterer(xs, ys) {
  const known = new Map();
  return (zoom, view = WORLD) => {
    let found = known.get(zoom);
    if (!found || !holds(found.window, view)) {
      found = cluster(xs, ys, zoom, around(view));
      known.delete(zoom);
      known.set(zoom, found);
      if (known.size > KEPT) known.delete(known.keys().next().value);
    }
    return found;
  };
}

const holds = (outer, inner) =>
  outer === WORLD || (outer.left <= inner.left && outer.right >= inner.right && outer.top <= inner.top && outer.bottom >= inner.bottom);

/** A view with as much again on each side; the whole world where that is half of it. */
function around({ left, right, top, bottom }) {
  const [wide, tall] = [right - left, bottom - top];
  return wide > 0.2 ? WORLD : { left: left - wide, right: right + wide, top: top - tall, bottom: bottom + tall };
}

/** The points in a window, ascending. */
function inside(xs, ys, { left, right, top, bottom }) {
  const found = [];
  for (let each = 0; each < xs.length; each++) {
    if (ys[each] >= top && ys[each] <= bottom && modulo(xs[each] - left, 1) <= right - left) found.push(each);
  }
  return found;
}

function cluster(xs, ys, zoom, window) {
  const across = Math.max(1, Math.round((256 * 2 ** zoom) / CELL)); // cells around the world
  const some = window === WORLD ? null : inside(xs, ys, window);
  const index = (point) => (some ? some[point] : point);
  const grid = some ? gather(Float64Array.from(some, (each) => xs[each]), Float64Array.from(some, (each) => ys[each]), across) : gather(xs, ys, across);
  merge(grid, NEAR / CELL / across);
  const kept = Int32Array.from({ length: grid.size }, (_, cell) => cell).filter((cell) => !grid.gone[cell]);
  return {
    window,
    size: kept.length,
    x: (each) => modulo(grid.x[kept[each]] / grid.count[kept[each]], 1),
    y: (each) => grid.y[kept[each]] / grid.count[kept[each]],
    count: (each) => grid.count[kept[each]],
    first: (each) => index(grid.first[kept[each]]),
    members: (each) => members(grid, kept[each]).map(index),
  };
}

const modulo = (a, b) => a - b * Math.floor(a / b);

/** The points by cell: sums, counts, and a list through `next` from `head` to `tail`. */
function gather(xs, ys, across) {
  const points = xs.length;
  const slots = 2 ** Math.ceil(Math.log2(2 * points + 2));
  const ints = () => new Int32Array(points);
  const grid = {
    across, size: 0, table: new Int32Array(slots).fill(-1), next: new Int32Array(points).fill(-1),
    column: ints(), row: ints(), count: ints(), first: ints(), head: ints(), tail: ints(),
    x: new Float64Array(points), y: new Float64Array(points), gone: new Uint8Array(points), full: new Uint8Array(points),
  };
  for (let point = 0; point < points; point++) {
    const column = Math.min(Math.floor(xs[point] * across), across - 1);
    const row = Math.max(0, Math.min(Math.floor(ys[point] * across), across - 1));
    const slot = slotOf(grid, column, row);
    let cell = grid.table[slot];
    if (cell < 0) {
      cell = grid.table[slot] = grid.size++;
      grid.column[cell] = column;
      grid.row[cell] = row;
      grid.first[cell] = grid.head[cell] = grid.tail[cell] = point;
    } else {
      grid.next[grid.tail[cell]] = point;
      grid.tail[cell] = point;
    }
    grid.x[cell] += xs[point];
    grid.y[cell] += ys[point];
    grid.count[cell]++;
  }
  return grid;
}

/** Where a cell stands in the table, or would. */
function slotOf({ table, column: columns, row: rows }, column, row) {
  const mask = table.length - 1;
  let slot = (Math.imul(column, 73856093) ^ Math.imul(row, 19349663)) & mask;
  while (table[slot] >= 0 && (columns[table[slot]] !== column || rows[table[slot]] !== row)) slot = (slot + 1) & mask;
  return slot;
}

/** Let the larger cells swallow what lies too close, also across the date line. */
function merge(grid, near) {
  const { across, column, row, count, gone, size, table } = grid;
  const order = Int32Array.from({ length: size }, (_, cell) => cell);
  const large = order.filter((cell) => count[cell] > 1).sort((a, b) => count[b] - count[a]);
  const merged = (cell) => {
    if (gone[cell]) return;
    for (let each = 0; each < 9; each++) {
      const beside = modulo(column[cell] + (each % 3) - 1, across);
      const other = table[slotOf(grid, beside, row[cell] + Math.floor(each / 3) - 1)];
      if (other >= 0 && other !== cell && !gone[other] && !grid.full[other]) swallow(grid, cell, other, near);
    }
  };
  large.forEach(merged);
  for (const cell of order) if (count[cell] === 1) merged(cell);
}

function swallow(grid, cell, other, near) {
  const { x, y, count, first, tail, head, next } = grid;
  const dx = x[other] / count[other] - x[cell] / count[cell];
  const turn = Math.round(dx);
  if (Math.hypot(dx - turn, y[other] / count[other] - y[cell] / count[cell]) > near) return;
  x[cell] += x[other] - turn * count[other];
  y[cell] += y[other];
  count[cell] += count[other];
  first[cell] = Math.min(first[cell], first[other]);
  next[tail[cell]] = head[other];
  tail[cell] = tail[other];
  grid.full[cell] = 1; // it stays: chains of cells would wander
  grid.gone[other] = 1;
}

function members({ head, next, count }, cell) {
  const found = new Int32Array(count[cell]);
  for (let each = 0, point = head[cell]; each < found.length; each++, point = next[point]) found[each] = point;
  return found.sort();
}
