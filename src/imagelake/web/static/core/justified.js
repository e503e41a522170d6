// Where each image of a long list lies: rows of one height that fill the width, or squares.

export const HEADING = 44;
const NARROWEST = 0.45;
const WIDEST = 3.2; // a panorama is cut, lest it push its row flat

/**
 * Lay out a list.
 *
 * `ratios`: width over height of each image, Float32Array [n]; `width`: of the list, `size`: the height of a row that is
 * wished for, `gap`: between images, all in pixels; `square`: all alike; `groups`: Int16Array [n] or null: where the
 * value changes, a row ends and a heading stands.
 *
 * Gives {left, wide: Float32Array [n]; first: Int32Array [rows + 1], top, high: Float64Array [rows];
 * headings: [{top, index}], height}.
 */
export function layOut({ ratios, width, size, gap, square = false, groups = null }) {
  const count = ratios.length;
  const left = new Float32Array(count);
  const wide = new Float32Array(count);
  const first = [];
  const top = [];
  const high = [];
  const headings = [];
  const columns = square ? Math.max(2, Math.round((width + gap) / (size + gap))) : 0;
  const side = square ? (width - gap * (columns - 1)) / columns : 0;
  let y = 0;
  for (let start = 0; start < count; ) {
    if (groups && (start === 0 || groups[start] !== groups[start - 1])) {
      headings.push({ top: y, index: start });
      y += HEADING;
    }
    const row = square
      ? squares(start, count, columns, side, groups)
      : justified(ratios, start, count, width, size, gap, groups);
    let x = 0;
    for (let index = start; index < row.end; index++) {
      left[index] = x;
      wide[index] = square ? side : shape(ratios[index]) * row.height;
      x += wide[index] + gap;
    }
    first.push(start);
    top.push(y);
    high.push(row.height);
    y += row.height + gap;
    start = row.end;
  }
  first.push(count);
  return { left, wide, first: Int32Array.from(first), top: Float64Array.from(top), high: Float64Array.from(high), headings, height: y };
}

function squares(start, count, columns, side, groups) {
  let end = start + 1;
  while (end < count && end - start < columns && !(groups && groups[end] !== groups[start])) end++;
  return { end, height: side };
}

function justified(ratios, start, count, width, size, gap, groups) {
  let end = start;
  let sum = 0;
  while (end < count && !(end > start && groups && groups[end] !== groups[start])) {
    const more = sum + shape(ratios[end]);
    const height = (width - gap * (end - start)) / more;
    if (height < size && end > start && size - height > (width - gap * (end - start - 1)) / sum - size) break; // closer without it
    sum = more;
    end++;
    if (height <= size) break;
  }
  const exact = (width - gap * (end - start - 1)) / sum;
  return { end, height: Math.min(exact, size * 1.35) }; // the last row of a group stays as it is, not blown up
}

const shape = (ratio) => Math.min(Math.max(ratio, NARROWEST), WIDEST);

/** The row of a place from the top: the last one that begins above it. */
export function rowAt(layout, y) {
  return before(layout.top, y);
}

/** The row of an image. */
export function rowOf(layout, index) {
  return before(layout.first.subarray(0, layout.top.length), index);
}

function before(sorted, value) {
  let low = 0;
  let high = sorted.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (sorted[middle] <= value) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** The image nearest to one in the row above (-1) or below (1) it; the image itself at the end. */
export function beside(layout, index, step) {
  const row = rowOf(layout, index) + step;
  if (row < 0 || row >= layout.top.length) return index;
  const middle = layout.left[index] + layout.wide[index] / 2;
  let best = layout.first[row];
  for (let each = best; each < layout.first[row + 1]; each++) {
    if (layout.left[each] <= middle) best = each;
  }
  return best;
}
