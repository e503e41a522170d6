// The view "search".

import { h } from "../core/dom.js";
import { t } from "../core/texts.js";

/** Build the view in a section; `known` is what the server told of itself. */
export function mount(section, known) {
  section.append(h("p", { class: "hint" }, t("core.search")));
  return { update() {} };
}
