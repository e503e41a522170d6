// Where a search begins: a picture that is dropped, pasted, chosen or taken, an address, or one of the lake.

import { href } from "../../core/address.js";
import { fill, h } from "../../core/dom.js";
import { get } from "../../core/server.js";
import { t } from "../../core/texts.js";
import { tile } from "../../core/tile.js";

const FORMATS = "image/*,.heic,.heif,.avif,.tif,.tiff,.webp";
const SOME = 18;

/** A large place to drop a picture, with every other way; `onFile(file)` and `onAddress(url)` are told. */
export function startPanel({ onFile, onAddress }) {
  const some = h("div", { class: "search-some" });
  const ideas = h("section", { class: "search-ideas", hidden: true }, h("h2", {}, t("search.or_one_of_these")), some);
  const element = h(
    "div",
    { class: "search-start" },
    h("div", { class: "search-drop" },
      sign(),
      h("h1", {}, t("search.start")),
      h("p", { class: "hint" }, t("search.start_hint")),
      chooser({ onFile, primary: true }),
      addressForm(onAddress)),
    ideas,
  );
  let asked = false;
  return {
    element,
    async offer() {
      if (asked) return;
      asked = true;
      const found = await get("browse", { sort: `random:${1 + Math.floor(Math.random() * 9999)}`, limit: SOME }).catch(() => null);
      if (!found?.items.length) return;
      fill(some, found.items.map(idea));
      ideas.hidden = false;
    },
  };
}

const sign = () => h("svg", { class: "search-sign", viewBox: "0 0 24 24", "aria-hidden": "true" }, h("path", { d: "M10.5 4a6.5 6.5 0 1 0 0 13a6.5 6.5 0 0 0 0-13zM15.5 15.5 21 21" }));

function idea(item) {
  const link = tile(item);
  link.setAttribute("href", href({ view: "search", like: item.id, query: null, url: null, box: null, id: null }));
  link.setAttribute("aria-label", t("search.like_name", { name: item.name }));
  return link;
}

/** Buttons that open a file, and on phones the camera. */
export function chooser({ onFile, primary = false }) {
  const input = (capture) => {
    const field = h("input", { type: "file", class: "visually-hidden", accept: FORMATS, capture, tabindex: "-1", "aria-hidden": "true",
      onchange: () => { if (field.files[0]) onFile(field.files[0]); field.value = ""; } });
    return field;
  };
  const file = input(null);
  const camera = input("environment");
  return h(
    "div",
    { class: "row search-choose" },
    h("button", { type: "button", class: primary ? "primary" : null, onclick: () => file.click() }, t("search.choose")),
    h("button", { type: "button", class: "search-camera", onclick: () => camera.click() }, t("search.camera")),
    file, camera,
  );
}

/** A field for the address of a picture. */
export function addressForm(onAddress, value = "") {
  const field = h("input", { type: "url", name: "address", placeholder: "https://", autocomplete: "off", "aria-label": t("search.address"), value });
  const send = (event) => {
    event.preventDefault();
    if (field.value.trim()) onAddress(field.value.trim());
    else field.focus();
  };
  return h("form", { class: "row search-address", onsubmit: send, novalidate: true }, field, h("button", {}, t("search.fetch")));
}
