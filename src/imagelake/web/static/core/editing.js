// The bar for chosen images (tags, list, none) and the button that sends pictures: any view may show them.

import { chooseNone, chosen, onChosen } from "./chosen.js";
import { announce, fill, h } from "./dom.js";
import { saveText, toCsv } from "./listing.js";
import { notice } from "./notice.js";
import { get, post } from "./server.js";
import { t, tn } from "./texts.js";
import { openUpload } from "./uploading.js";

const AT_ONCE = 10_000; // images of one request: more would take too long for one

/**
 * A bar that shows itself while images are chosen: how many, tags to add and remove, a list of them, none.
 * `known` is what the server told of itself. Views are told of changed tags by the event "imagelake:tags" on window.
 */
export function editingBar(known) {
  const bar = h("div", { class: "editing", role: "region", "aria-label": t("edit.bar"), hidden: true });
  const count = h("strong", { class: "editing-count" });
  const names = h("datalist", { id: `editing-tags-${(editingBar.made = (editingBar.made || 0) + 1)}` });
  const field = h("input", {
    type: "text", list: names.id, maxlength: 100, autocomplete: "off", placeholder: t("edit.tag"), "aria-label": t("edit.tag"),
    onfocus: () => loadNames(names),
    onkeydown: (event) => { if (event.key === "Enter") tag(field, "add"); },
  });
  fill(
    bar,
    count,
    known.write
      ? [
          field, names,
          h("button", { class: "primary", onclick: () => tag(field, "add") }, t("edit.add")),
          h("button", { onclick: () => tag(field, "remove") }, t("edit.remove")),
        ]
      : h("span", { class: "hint" }, t("edit.readonly")),
    h("span", { class: "spring" }),
    h("button", { onclick: () => saveList("csv") }, t("edit.csv")),
    h("button", { onclick: () => saveList("json") }, t("edit.json")),
    h("button", { class: "quiet", onclick: chooseNone, "aria-label": t("edit.none"), title: t("edit.none") }, "✕"),
  );
  const show = () => {
    const ids = chosen();
    bar.hidden = !ids.length;
    count.textContent = tn("edit.chosen", ids.length);
  };
  onChosen(show);
  show();
  return bar;
}

/** A button that opens the dialog to send pictures; null where the lake is read only. */
export function uploadButton(known) {
  if (!known.write) return null;
  return h("button", { class: "editing-upload", onclick: () => openUpload() }, t("edit.upload"));
}

/** Add and remove tags of images, and offer to undo it; gives the answer, or null where it failed. */
export async function changeTags(ids, add, remove) {
  const steps = [];
  for (let start = 0; start < ids.length; start += AT_ONCE) steps.push({ ids: ids.slice(start, start + AT_ONCE), add, remove });
  const done = await send(steps);
  if (!done) return null;
  const text = tn("edit.changed", done.changed);
  announce(text);
  notice(text, { error: false, action: done.undo.length ? { text: t("edit.undo"), work: () => undo(done.undo) } : null });
  return done;
}

async function undo(steps) {
  const done = await send(steps);
  if (done) notice(tn("edit.undone", done.changed), { error: false });
}

async function send(steps) {
  const total = { changed: 0, undo: [] };
  try {
    for (const step of steps) {
      const done = await post("tags", step);
      total.changed += done.changed;
      total.undo.push(...done.undo);
    }
  } catch (error) {
    notice(error.message);
    return null;
  } finally {
    if (total.changed) dispatchEvent(new CustomEvent("imagelake:tags", { detail: total }));
  }
  return total;
}

async function tag(field, what) {
  const word = field.value.trim();
  if (!word) {
    field.focus();
    return;
  }
  const done = await changeTags(chosen(), what === "add" ? [word] : [], what === "add" ? [] : [word]);
  if (done) field.value = "";
}

async function loadNames(names) {
  const found = await get("tags").catch(() => ({ tags: [] }));
  fill(names, found.tags.slice(0, 500).map((each) => h("option", { value: each.name })));
}

async function saveList(format) {
  try {
    const { images } = await post("listing", { ids: chosen() });
    const rows = images.map((each) => [each.id, each.name, each.width, each.height, each.taken_at, each.labels, each.tags, each.uris]);
    const head = ["id", "name", "width", "height", "taken_at", "labels", "tags", "uris"];
    const text = format === "json" ? JSON.stringify(images, null, 2) + "\n" : toCsv(head, rows);
    saveText(`images.${format}`, text, format === "json" ? "application/json" : "text/csv");
  } catch (error) {
    notice(error.message);
  }
}
