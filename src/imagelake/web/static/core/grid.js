// A grid of very many images: only those in sight are elements, and they are used again as others come into sight.

import { isChosen, choose, onChosen } from "./chosen.js";
import { fill, h, later } from "./dom.js";
import { makeCell } from "./grid_cell.js";
import { beside, layOut, rowAt, rowOf } from "./justified.js";
import { pages } from "./pages.js";

const AHEAD = 700; // pixels above and below the window that are there already
const FAST = 6; // windows a second: who flies by sees colors, and nothing is fetched

/**
 * Put a grid into an element. `options`:
 *   ask(offset, limit) -> Promise of items; idsBetween(start, end) -> Promise of ids, for a choice by Shift;
 *   heading(index) -> text of the heading above an image; label: of the list, for a screen reader;
 *   changes(item) -> more parameters of the address an item leads to; like(item) -> the address of "more like this".
 */
export function makeGrid(element, options) {
  const list = h("div", { class: "grid-list", role: "list", "aria-label": options.label || null });
  const heads = h("div", { class: "grid-heads" });
  element.classList.add("grid");
  fill(element, heads, list);
  const cells = new Map(); // index -> cell
  const spare = [];
  const titles = new Map();
  let given = { ratios: new Float32Array(0), colors: null, groups: null };
  let look = { size: 200, gap: 4, square: false };
  let layout = layOut({ ...given, ...look, width: 1 });
  let width = 0;
  let focus = 0; // the image that Tab comes to
  let anchor = -1; // where a choice by Shift begins
  let speed = { y: scrollY, at: 0, fast: false };
  const items = pages(options.ask, (start, found) => {
    for (let index = start; index < start + found.length; index++) {
      cells.get(index)?.show(items.get(index), index);
      if (!speed.fast) cells.get(index)?.load();
    }
  });
  const settle = later(90, () => {
    speed.fast = false;
    draw();
    putInOrder();
  });

  const count = () => given.ratios.length;

  function lay(keep = false) {
    if (!element.clientWidth) return;
    const top = keep && scrollY > offset() ? indexAt(scrollY - offset()) : -1;
    const within = top >= 0 ? scrollY - offset() - layout.top[rowOf(layout, top)] : 0;
    width = element.clientWidth;
    layout = layOut({ ratios: given.ratios, groups: given.groups, ...look, width });
    element.style.setProperty("height", `${Math.ceil(layout.height)}px`);
    clear();
    draw();
    putInOrder();
    if (top >= 0) scrollTo(0, offset() + layout.top[rowOf(layout, Math.min(top, count() - 1))] + within);
  }

  const offset = () => element.getBoundingClientRect().top + scrollY;
  const indexAt = (y) => (count() ? layout.first[rowAt(layout, y)] : -1);

  function clear() {
    for (const [index, cell] of cells) release(index, cell);
    for (const title of titles.values()) title.remove();
    titles.clear();
  }

  function release(index, cell) {
    cells.delete(index);
    cell.rest();
    spare.push(cell);
  }

  function draw() {
    if (!element.clientWidth) return;
    const from = scrollY - offset();
    const top = from - AHEAD;
    const bottom = from + innerHeight + AHEAD;
    const empty = !count() || bottom < 0;
    const start = empty ? 0 : layout.first[rowAt(layout, top)];
    const end = empty ? 0 : layout.first[rowAt(layout, bottom) + 1];
    for (const [index, cell] of cells) {
      if ((index < start || index >= end) && index !== focus) release(index, cell);
    }
    for (let index = start; index < end; index++) place(index);
    if (count()) place(focus);
    placeHeadings(top, bottom);
    if (!speed.fast && end > start) items.want(start, end);
  }

  /** A screen reader reads them in the order of the list; the one with the focus stays, lest it lose it. */
  function putInOrder() {
    let after = null;
    for (const [, cell] of [...cells].sort(([a], [b]) => b - a)) {
      if (cell.element.nextSibling !== after && !cell.element.contains(document.activeElement)) list.insertBefore(cell.element, after);
      after = cell.element;
    }
  }

  function place(index) {
    if (cells.has(index)) {
      if (!speed.fast) cells.get(index).load();
      return;
    }
    const cell = spare.pop() || makeCell(list, options);
    const row = rowOf(layout, index);
    cells.set(index, cell);
    cell.put(index, count(), layout.left[index], layout.top[row], layout.wide[index], layout.high[row], given.colors?.[index]);
    cell.reach(index === focus);
    cell.show(items.get(index), index);
    if (!speed.fast) cell.load();
  }

  function placeHeadings(top, bottom) {
    if (!options.heading) return;
    for (const [index, title] of titles) {
      if (Number(title.dataset.top) < top || Number(title.dataset.top) > bottom) {
        title.remove();
        titles.delete(index);
      }
    }
    for (let number = firstHeading(top); number < layout.headings.length; number++) {
      const each = layout.headings[number];
      if (each.top > bottom) break;
      if (titles.has(each.index)) continue;
      const title = h("h2", { dataset: { top: each.top }, style: { transform: `translateY(${each.top}px)` } }, options.heading(each.index));
      titles.set(each.index, title);
      heads.append(title);
    }
  }

  function firstHeading(top) {
    let low = 0;
    let high = layout.headings.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (layout.headings[middle].top < top) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  function moved() {
    const now = performance.now();
    const windows = Math.abs(scrollY - speed.y) / innerHeight / Math.max(0.008, (now - speed.at) / 1000);
    speed = { y: scrollY, at: now, fast: windows > FAST && Math.abs(scrollY - speed.y) > innerHeight / 2 };
    draw();
    settle();
  }

  let asked = false;
  addEventListener("scroll", () => {
    if (asked || !element.clientWidth) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      moved();
    });
  }, { passive: true });
  new ResizeObserver(() => {
    if (element.clientWidth && element.clientWidth !== width) lay(true);
  }).observe(element);

  /** Move the focus to an image, and into sight. */
  function reach(index, { quiet = false } = {}) {
    if (!count()) return;
    const next = Math.min(Math.max(index, 0), count() - 1);
    cells.get(focus)?.reach(false);
    focus = next;
    const row = rowOf(layout, next);
    const top = offset() + layout.top[row];
    const head = parseFloat(getComputedStyle(element).getPropertyValue("--above")) || 120;
    if (top - head < scrollY) scrollTo(0, top - head);
    else if (top + layout.high[row] + 80 > scrollY + innerHeight) scrollTo(0, top + layout.high[row] + 80 - innerHeight);
    draw();
    cells.get(next).reach(true);
    if (!quiet) cells.get(next).link.focus({ preventScroll: true });
  }

  async function pick(index, range) {
    const item = items.get(index);
    if (range && anchor >= 0 && anchor !== index) {
      const ids = await options.idsBetween(Math.min(anchor, index), Math.max(anchor, index) + 1);
      choose(ids, true);
    } else if (item) choose([item.id], !isChosen(item.id));
    anchor = index;
  }

  const STEPS = {
    ArrowRight: (index) => index + 1,
    ArrowLeft: (index) => index - 1,
    ArrowDown: (index) => beside(layout, index, 1),
    ArrowUp: (index) => beside(layout, index, -1),
    Home: () => 0,
    End: () => count() - 1,
    PageDown: (index) => jump(index, 1),
    PageUp: (index) => jump(index, -1),
  };

  const jump = (index, way) => {
    const rows = Math.max(1, Math.floor((innerHeight - 160) / (look.size + look.gap)));
    let at = index;
    for (let row = 0; row < rows; row++) at = beside(layout, at, way);
    return at;
  };

  element.addEventListener("keydown", (event) => {
    const index = indexOf(event.target);
    if (index < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    if (STEPS[event.key]) reach(STEPS[event.key](index));
    else if (event.key === "x" || (event.key === " " && event.target.matches("a"))) pick(index, event.shiftKey);
    else if (event.key === "X") pick(index, true);
    else return;
    event.preventDefault();
  });
  element.addEventListener("focusin", (event) => {
    const index = indexOf(event.target);
    if (index < 0 || index === focus) return;
    cells.get(focus)?.reach(false);
    focus = index;
    cells.get(index).reach(true);
  });
  element.addEventListener("click", (event) => {
    const index = indexOf(event.target);
    if (index < 0) return;
    const check = event.target.closest(".grid-check");
    if (!check && !event.shiftKey) return;
    event.preventDefault();
    event.stopPropagation();
    pick(index, event.shiftKey);
  }, true);
  onChosen(() => {
    for (const cell of cells.values()) cell.mark();
  });

  const indexOf = (target) => Number(target.closest?.(".grid-cell")?.dataset.index ?? -1);

  return {
    /** Show another list: {ratios, colors, groups} by index; `top` false leaves the page where it is. */
    show(next, { top = true } = {}) {
      given = next;
      items.clear();
      anchor = -1;
      focus = top ? 0 : Math.min(focus, Math.max(0, count() - 1));
      lay();
    },
    /** How it looks: {size, gap, square}. */
    look(next) {
      look = { ...look, ...next };
      lay(true);
    },
    /** Fetch the items again, as after tags have changed. */
    renew() {
      items.clear();
      draw();
      items.want(...(cells.size ? [Math.min(...cells.keys()), Math.max(...cells.keys()) + 1] : [0, 0]));
    },
    reach,
    draw,
    layout: () => layout,
    offset,
    indexAt,
    count,
    focused: () => focus,
  };
}
