// The points that were lassoed: how many, their pictures, and what can be done with them.

import { href } from "../../core/address.js";
import { choose, chosen } from "../../core/chosen.js";
import { announce, fill, h } from "../../core/dom.js";
import { notice } from "../../core/notice.js";
import { t, tn } from "../../core/texts.js";
import { tile } from "../../core/tile.js";
import { loadItems, save, wholeIds } from "./data.js";

const SHOWN = 48;
const FOR_AN_ADDRESS = 200; // ids: more make an address that proxies refuse

/** Show what is picked, of `state`; `clear()` picks nothing. */
export async function showPicked(element, state, clear) {
  const picked = state.picked ? [...state.picked] : [];
  element.hidden = !picked.length;
  if (!picked.length) return fill(element);
  const ids = picked.map(state.points.id);
  const strip = h("div", { class: "atlas-strip" });
  const first = ids.slice(0, SHOWN);
  fill(strip, first.map(() => h("span", { class: "atlas-slot" })));
  announce(tn("atlas.picked", picked.length));
  fill(
    element,
    h("div", { class: "row" }, h("h2", {}, tn("atlas.picked", picked.length)), h("span", { class: "spring" }), h("button", { class: "quiet", onclick: clear, "aria-label": t("atlas.clear"), title: t("atlas.clear") }, "✕")),
    h("div", { class: "row" },
      h("button", { class: "primary", onclick: () => chooseAll(ids) }, t("atlas.choose")),
      saving(state, ids),
      ids.length <= FOR_AN_ADDRESS && h("a", { class: "button", href: inBrowse(ids) }, t("atlas.browse")),
    ),
    strip,
    ids.length > SHOWN && h("p", { class: "hint" }, t("atlas.more", { count: ids.length - SHOWN })),
  );
  try {
    const items = await loadItems(first);
    if (state.picked && strip.isConnected) fill(strip, items.map((item) => tile(item)));
  } catch (error) {
    notice(error.message);
  }
}

async function chooseAll(ids) {
  try {
    choose(await wholeIds(ids));
    announce(tn("atlas.chosen", chosen().length));
  } catch (error) {
    notice(error.message);
  }
}

/** A list of files to save; `ids` null: of the whole map. */
export function saving(state, ids) {
  const work = (event) => {
    const format = event.target.value;
    event.target.value = "";
    if (format) save(state.set, state.method, format, ids).catch((error) => notice(error.message));
  };
  return h(
    "select",
    { class: "atlas-save", "aria-label": ids ? t("atlas.export") : t("atlas.exportall"), onchange: work },
    h("option", { value: "" }, ids ? t("atlas.export") : t("atlas.exportall")),
    ["csv", "json", "parquet"].map((name) => h("option", { value: name }, t(`atlas.${name}`))),
  );
}

function inBrowse(ids) {
  const where = `substr(id, 1, 16) IN (${ids.map((id) => `'${id}'`).join(", ")})`;
  return href({ view: "browse", where, set: null, method: null, color: null, box: null, only: null });
}
