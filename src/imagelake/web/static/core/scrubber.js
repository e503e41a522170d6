// A line of time beside a long grid: years to jump to, and the month of what is in sight while the page moves.

import { fill, h, later } from "./dom.js";

const LEAST = 3; // windows that a list must be long

/** Put it beside a grid; `yearOf(index)` and `monthOf(index)` are texts. For the pointer: keys have the facet of years. */
export function makeScrubber(element, grid, { yearOf, monthOf }) {
  const bubble = h("span", { class: "scrubber-now", hidden: true });
  const marks = h("div", { class: "scrubber-years" });
  element.classList.add("scrubber");
  element.setAttribute("aria-hidden", "true");
  fill(element, marks, bubble);
  let dragged = false;
  const hide = later(900, () => { bubble.hidden = !dragged; });

  const high = () => element.clientHeight;
  const room = () => Math.max(1, grid.layout().height - innerHeight / 2);

  /** The list is another one. */
  function show(on) {
    const long = on && grid.layout().height > LEAST * innerHeight;
    element.hidden = !long;
    if (!long) return;
    const found = [];
    let before = -100;
    let year = "";
    for (const { top, index } of grid.layout().headings) {
      const text = yearOf(index);
      if (text === year) continue;
      year = text;
      const y = Math.min(1, top / room()) * high();
      const dense = y - before < 16;
      if (!dense) before = y;
      found.push(h("span", { class: dense ? "scrubber-dot" : "scrubber-year", style: { transform: `translateY(${y}px)` } }, dense ? "" : text));
    }
    fill(marks, found);
  }

  function follow() {
    if (element.hidden) return;
    const top = Math.max(0, scrollY - grid.offset());
    const text = monthOf(grid.indexAt(top + 60));
    bubble.textContent = text;
    bubble.style.setProperty("transform", `translateY(${Math.min(1, top / room()) * high()}px)`);
    bubble.hidden = !text;
    hide();
  }

  function drag(event) {
    const part = (event.clientY - element.getBoundingClientRect().top) / high();
    scrollTo(0, grid.offset() + Math.min(Math.max(part, 0), 1) * room() - 100);
  }

  element.addEventListener("pointerdown", (event) => {
    dragged = true;
    element.setPointerCapture(event.pointerId);
    drag(event);
    event.preventDefault();
  });
  element.addEventListener("pointermove", (event) => dragged && drag(event));
  for (const name of ["pointerup", "pointercancel"]) element.addEventListener(name, () => { dragged = false; });
  addEventListener("scroll", follow, { passive: true });
  return { show };
}
