// What counts as a copy, and which copies are chosen in all groups at once: both are in the address.

import { get as parameter, go } from "../../core/address.js";
import { fill, h, later } from "../../core/dom.js";
import { bytes, number, t, time, tn } from "../../core/texts.js";

const KINDS = ["exact", "hash", "embedding"];
const PICKS = ["none", "exact", "hash", "all"];
const BITS = 4;
const NEAR = 0.1;

/** The bar over the groups: {element, update(), told(answer)}. */
export function makeSettings(known) {
  const headline = h("strong", { class: "duplicates-headline" });
  const made = h("span", { class: "hint duplicates-made" });
  const boxes = KINDS.map((kind) => kindBox(kind, known));
  const bits = slider("bits", { min: 0, max: 12, step: 1, usual: BITS, say: (value) => tn("duplicates.bits", Number(value)) });
  const near = slider("near", { min: 0.01, max: 0.4, step: 0.01, usual: NEAR, say: (value) => number(Number(value), 2) });
  const notes = h("ul", { class: "duplicates-notes hint" });
  const pick = h(
    "select",
    { onchange: () => go({ pick: pick.value === "none" ? null : pick.value }) },
    PICKS.map((each) => h("option", { value: each }, t(`duplicates.pick_${each}`))),
  );
  const under = h("input", { type: "text", placeholder: t("duplicates.under_hint"), maxlength: 1000, size: 18, spellcheck: "false" });
  under.addEventListener("input", later(400, () => go({ under: under.value || null }, { replace: true })));
  const kinds = h(
    "details",
    { class: "duplicates-kinds" },
    h("summary", {}, t("duplicates.what")),
    h("div", { class: "duplicates-sheet" }, boxes.map((each) => each.element), h("label", {}, t("duplicates.bits_name"), bits.element), h("label", { class: "duplicates-near" }, t("duplicates.near_name"), near.element), notes),
  );
  addEventListener("click", (event) => { if (kinds.open && !kinds.contains(event.target)) kinds.open = false; });
  kinds.addEventListener("keydown", (event) => { if (event.key === "Escape") { kinds.open = false; kinds.firstChild.focus(); } });
  const element = h(
    "div",
    { class: "duplicates-bar" },
    h("div", { class: "duplicates-told" }, headline, made),
    h("span", { class: "spring" }),
    h("label", { class: "duplicates-pick" }, h("span", {}, t("duplicates.pick")), pick),
    h("label", { class: "duplicates-pick" }, h("span", {}, t("duplicates.under")), under),
    kinds,
  );
  return {
    element,
    update() {
      const by = (parameter("by") || "exact,hash").split(",");
      for (const each of boxes) each.input.checked = by.includes(each.kind);
      bits.set(parameter("bits") || BITS);
      near.set(parameter("near") || NEAR);
      bits.element.parentElement.hidden = !by.includes("hash");
      near.element.parentElement.hidden = !by.includes("embedding");
      pick.value = PICKS.includes(parameter("pick")) ? parameter("pick") : "none";
      if (document.activeElement !== under) under.value = parameter("under");
    },
    told(answer) {
      if (!answer.groups) {
        headline.textContent = answer.state === "working" ? t("duplicates.looking") : "";
        made.textContent = "";
        return;
      }
      headline.textContent = `${tn("duplicates.groups", answer.groups_count)} · ${t("duplicates.to_win", { copies: tn("duplicates.copies", answer.duplicates), size: bytes(answer.bytes) })}`;
      made.textContent = t("duplicates.made", { when: ago(answer.made_at), images: answer.images });
      made.title = time(answer.made_at);
      fill(notes, answer.notes.map((each) => h("li", {}, each)));
    },
  };
}

function kindBox(kind, known) {
  const input = h("input", { type: "checkbox", onchange: change });
  input.disabled = kind === "embedding" && !known.search;
  function change() {
    const before = (parameter("by") || "exact,hash").split(",");
    const next = KINDS.filter((each) => (each === kind ? input.checked : before.includes(each)));
    if (!next.length) input.checked = true;
    else go({ by: next.join() === "exact,hash" ? null : next.join(), group: null, other: null });
  }
  const hint = input.disabled ? t("duplicates.no_vectors") : t(`duplicates.${kind}_hint`);
  return { kind, input, element: h("label", { class: "duplicates-kind" }, input, h("span", {}, t(`duplicates.${kind}`)), h("span", { class: "hint" }, hint)) };
}

function slider(name, { min, max, step, usual, say }) {
  const input = h("input", { type: "range", min, max, step });
  const value = h("output", {});
  const tell = () => { value.textContent = say(input.value); };
  input.addEventListener("input", tell);
  input.addEventListener("change", () => go({ [name]: Number(input.value) === usual ? null : input.value, group: null, other: null }));
  const set = (to) => { input.value = String(to); tell(); };
  return { element: h("span", { class: "duplicates-slider" }, input, value), set };
}

function ago(iso) {
  const seconds = Math.max(0, (Date.now() - new Date(iso).getTime()) / 1000);
  const [unit, size] = seconds < 90 ? ["second", 1] : seconds < 5400 ? ["minute", 60] : seconds < 129_600 ? ["hour", 3600] : ["day", 86_400];
  return new Intl.RelativeTimeFormat(document.documentElement.lang || "en", { numeric: "auto" }).format(-Math.round(seconds / size), unit);
}
