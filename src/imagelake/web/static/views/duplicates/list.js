// All groups as a list of equal rows, of which only those that are seen exist.

import { href } from "../../core/address.js";
import { h } from "../../core/dom.js";
import { thumbnail } from "../../core/server.js";
import { bytes, t, tn } from "../../core/texts.js";

const ROW = 92;
const BEYOND = 6; // rows above and below what is seen
const SHOWN = 4; // copies of a row

/** `groupAt(index)` is a group or null, `want(start, end)` fetches some. */
export function makeList({ groupAt, want, decided, open }) {
  const inner = h("ol", { class: "duplicates-rows" });
  const element = h("div", { class: "duplicates-list", role: "group", "aria-label": t("duplicates.groups"), tabindex: "-1" }, inner);
  const rows = new Map(); // index -> {row, group}
  let total = 0;
  let current = -1;
  let frame = 0;

  function draw() {
    frame = 0;
    const first = Math.max(0, Math.floor(element.scrollTop / ROW) - BEYOND);
    const last = Math.min(total, Math.ceil((element.scrollTop + element.clientHeight) / ROW) + BEYOND);
    for (const [index, { row }] of rows) {
      if (index >= first && index < last) continue;
      row.remove();
      rows.delete(index);
    }
    if (last > first) want(first, last);
    for (let index = first; index < last; index += 1) place(index);
  }

  function place(index) {
    const group = groupAt(index);
    const mark = group ? `${group.key} ${JSON.stringify(decided.of(group))}` : "";
    const there = rows.get(index);
    if (there && there.mark === mark) {
      there.row.firstChild.ariaCurrent = index === current ? "true" : null;
      return;
    }
    const focused = there?.row.contains(document.activeElement);
    const row = rowOf(index, group);
    if (there) there.row.replaceWith(row);
    else inner.append(row);
    rows.set(index, { row, mark, group });
    if (focused) row.firstChild.focus({ preventScroll: true });
  }

  function rowOf(index, group) {
    const style = { top: `${index * ROW}px`, height: `${ROW}px` };
    const count = { "aria-posinset": index + 1, "aria-setsize": total };
    if (!group) return h("li", { class: "duplicates-row", style, ...count }, h("span", { class: "duplicates-wait" }));
    const { keeper, chosen } = decided.of(group);
    const kept = group.files.find((each) => each.key === keeper) || group.files[0];
    const rest = group.files.filter((each) => each !== kept);
    if (!kept) return h("li", { class: "duplicates-row", style, ...count }, h("span", { class: "hint" }, t("duplicates.gone")));
    const copies = group.files.length - 1 + group.more;
    return h(
      "li",
      { class: "duplicates-row", style, ...count },
      h(
        "a",
        {
          href: href({ group: group.key, other: null }), "aria-current": index === current ? "true" : null,
          onclick: (event) => { if (!event.metaKey && !event.ctrlKey) { event.preventDefault(); open(index); } },
        },
        small(kept, "keep"),
        h("span", { class: "duplicates-copies" }, rest.slice(0, SHOWN).map((each) => small(each, chosen.includes(each.key) ? "goes" : ""))),
        h(
          "span", { class: "duplicates-about" },
          h("span", { class: "duplicates-name" }, kept.name),
          h("span", { class: "hint" }, `${tn("duplicates.copies", copies)} · ${bytes(group.bytes)}`),
          chosen.length > 0 && h("span", { class: "duplicates-going" }, tn("duplicates.going", chosen.length)),
        ),
      ),
    );
  }

  function small(file, state) {
    return h("span", { class: "duplicates-small", dataset: { state }, style: { "--color": file.color } }, h("img", { src: thumbnail(file.id), alt: "", decoding: "async" }));
  }

  const soon = () => { frame ||= requestAnimationFrame(draw); };
  element.addEventListener("scroll", soon, { passive: true });
  new ResizeObserver(soon).observe(element);

  return {
    element,
    size(count) {
      total = count;
      for (const { row } of rows.values()) row.remove();
      rows.clear();
      inner.style.setProperty("height", `${count * ROW}px`);
      soon();
    },
    arrived: soon,
    current(index, { scroll = false } = {}) {
      current = index;
      if (scroll && index >= 0) reveal(index);
      soon();
    },
    /** The index of a group that is loaded, by its key; -1. */
    find(key) {
      for (const [index, { group }] of rows) if (group?.key === key) return index;
      return groupAt(current)?.key === key ? current : -1;
    },
  };

  function reveal(index) {
    const [top, bottom] = [index * ROW, (index + 1) * ROW];
    if (top < element.scrollTop) element.scrollTop = top;
    else if (bottom > element.scrollTop + element.clientHeight && element.clientHeight) element.scrollTop = bottom - element.clientHeight;
  }
}

