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
  if (!error) setTimeout(() => box.remove(), 6000);
}
