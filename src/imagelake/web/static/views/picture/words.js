// Small parts of the picture's panel: pairs of name and value, what can be copied.

import { announce, h } from "../../core/dom.js";
import { notice } from "../../core/notice.js";
import { t } from "../../core/texts.js";

/** A list of names and values; what is not known is left out. Null where nothing is. */
export function pairs(told, kind = "picture-facts") {
  const there = told.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false);
  if (!there.length) return null;
  return h("dl", { class: kind }, there.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** A long name such as a fingerprint: its beginning, copied whole by a click. */
export function copyable(text, shown = 12) {
  if (!text) return null;
  const short = text.length > shown ? `${text.slice(0, shown)}…` : text;
  return h("button", { class: "picture-copy", title: text, "aria-label": t("picture.copy", { what: text }), onclick: () => copy(text) }, short);
}

/** Put a text where it can be pasted from, also where the page has no secure address. */
export async function copy(text) {
  try {
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else copyOldWay(text);
    notice(t("picture.copied"), { error: false });
    announce(t("picture.copied"));
  } catch {
    notice(t("picture.not_copied", { what: text }));
  }
}

function copyOldWay(text) {
  const field = h("textarea", { class: "visually-hidden", value: text });
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  if (!done) throw new Error("refused");
}
