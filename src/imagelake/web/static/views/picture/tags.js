// The tags of one picture: shown to everybody, changed by those who may.

import { href } from "../../core/address.js";
import { fill, h } from "../../core/dom.js";
import { changeTags } from "../../core/editing.js";
import { get } from "../../core/server.js";
import { t } from "../../core/texts.js";

/** Chips for labels and tags, and a field for a new one. */
export function tags(section, picture, known) {
  const state = { tags: [...(picture.tags || [])] };
  const before = section.querySelector("input"); // somebody may be adding several
  const again = before?.dataset.id === picture.id;
  const [typed, focused] = [again ? before.value : "", again && section.contains(document.activeElement)];
  const list = h("ul", { class: "picture-tags" });
  const names = h("datalist", { id: "picture-tag-names" });
  const field = h("input", {
    type: "text", list: names.id, value: typed, dataset: { id: picture.id }, maxlength: 100, autocomplete: "off", placeholder: t("picture.add_tag"), "aria-label": t("picture.add_tag"),
    onfocus: () => suggest(names),
  });

  const change = async (add, remove) => {
    const done = await changeTags([picture.id], add, remove);
    if (!done) return;
    state.tags = [...new Set([...state.tags, ...add])].filter((each) => !remove.includes(each)).sort();
    show();
  };
  const chip = (name) =>
    h(
      "li",
      { class: "chip picture-tag" },
      h("a", { href: only({ "f.tag": name }) }, name),
      known.write && h("button", { class: "quiet", "aria-label": t("picture.remove_tag", { name }), onclick: () => change([], [name]) }, "✕"),
    );
  const show = () => fill(list, state.tags.map(chip));
  show();

  const send = (event) => {
    event.preventDefault();
    const word = field.value.trim();
    field.value = "";
    if (word && !state.tags.includes(word)) change([word], []);
  };
  fill(
    section,
    h("h2", {}, t("picture.tags")),
    (picture.labels || []).length
      ? h("ul", { class: "picture-tags" }, picture.labels.map((name) => h("li", { class: "chip picture-label" }, h("a", { href: only({ "f.label": name }) }, name))))
      : null,
    list,
    known.write
      ? h("form", { class: "row picture-tagging", onsubmit: send }, field, names, h("button", {}, t("picture.add")))
      : h("p", { class: "hint picture-readonly" }, t(state.tags.length ? "picture.readonly" : "picture.readonly_no_tags")),
  );
  if (focused) field.focus();
}

/** The address of all pictures that have this. */
export function only(changes) {
  const gone = {};
  for (const name of new URLSearchParams(location.search).keys()) if (name !== "lang") gone[name] = null;
  return href({ ...gone, view: "browse", ...changes });
}

async function suggest(names) {
  const found = await get("tags").catch(() => ({ tags: [] }));
  fill(names, found.tags.slice(0, 500).map((each) => h("option", { value: each.name })));
}
