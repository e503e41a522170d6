// A short word at the bottom of the page: what was done, or why not.

import { h } from "./dom.js";
import { t } from "./texts.js";

/** Show a word; an error stays until it is closed. `action` is {text, work}. */
export function notice(text, { error = true, action = null } = {}) {
  const box = h(
    "div",
    { class: error ? "notice bad" : "notice", role: error ? "alert" : "status" },
    h("span", {}, text),
    action && h("button", { onclick: () => { box.remove(); action.work(); } }, action.text),
    h("button", { class: "quiet", onclick: () => box.remove(), "aria-label": t("core.close") }, "✕"),
  );
  for (const old of document.querySelectorAll(".notice")) old.remove();
  document.body.append(box);
  aboveBars(box);
  if (!error) fade(box, action ? 15_000 : 6000);
}

/** Away after a while, but not from under somebody's hand. */
function fade(box, milliseconds) {
  setTimeout(() => (box.matches(":hover, :focus-within") ? fade(box, 2000) : box.remove()), milliseconds);
}

/** Not over the bars at the foot of a view, whose buttons are often wanted next. */
function aboveBars(box) {
  const bars = [...document.querySelectorAll(".editing, .duplicates-outcome")].filter((each) => each.getClientRects().length);
  const tops = bars.map((each) => each.getBoundingClientRect().top).filter((top) => top > innerHeight / 2 && top < innerHeight);
  if (tops.length) box.style.setProperty("bottom", `${innerHeight - Math.min(...tops) + 10}px`);
}
