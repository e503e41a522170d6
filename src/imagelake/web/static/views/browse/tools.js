// The bar above the grid: words, SQL, order, size.

import { go, get as parameter } from "../../core/address.js";
import { fill, h, later } from "../../core/dom.js";
import { memory } from "./taste.js";
import { t, tn } from "../../core/texts.js";

const ORDERS = ["taken_at", "added_at", "name", "byte_size", "pixels", "brightness", "sharpness", "random"];
const DOWN = new Set(["taken_at", "added_at", "byte_size", "pixels", "sharpness"]); // that begin with the greatest
const EXAMPLES = ["width > height * 2", "iso >= 3200 AND f_number <= 2.8", "list_contains(tags, 'good')", "taken_at >= '2024-01-01'"];
let number = 0;

/** {bar, trouble, text, putSize(place), show(state), fault(message)}; `look(next)` changes the grid, `drawer()` opens the filters, `more` is another button or null. */
export function makeTools({ look, drawer, chooseAll, more }) {
  const id = `browse-where-${++number}`;
  const text = h("input", { type: "search", class: "browse-text", placeholder: t("browse.text_hint"), "aria-label": t("browse.text_hint"), "aria-keyshortcuts": "/", autocomplete: "off", spellcheck: "false", enterkeyhint: "search", oninput: later(180, () => go({ q: text.value.trim() || null }, { replace: Boolean(parameter("q")) })), onkeydown: (event) => { if (event.key === "Escape") text.blur(); } });
  const count = h("span", { class: "browse-count" });
  const where = h("textarea", { class: "browse-where", rows: 2, spellcheck: "false", autocapitalize: "off", "aria-label": t("browse.where"), "aria-describedby": `${id}-error`, placeholder: EXAMPLES[0], onkeydown: (event) => { if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); apply(); } } });
  const error = h("p", { id: `${id}-error`, class: "browse-error", role: "alert", hidden: true });
  const sheet = h("div", { id, class: "browse-sql card", hidden: true },
    h("p", { class: "hint" }, t("browse.where_hint")),
    h("div", { class: "row" }, where, h("button", { class: "primary", type: "button", onclick: apply }, t("browse.apply"))),
    error,
    h("p", { class: "row" }, h("span", { class: "hint" }, t("browse.examples")), EXAMPLES.map((each) => h("button", { class: "quiet browse-example", type: "button", onclick: () => { where.value = each; apply(); } }, h("code", {}, each)))),
  );
  const disclose = h("button", { type: "button", "aria-expanded": "false", "aria-controls": id, onclick: () => open(sheet.hidden) }, "SQL");
  const sort = h("select", { "aria-label": t("browse.sort"), onchange: () => order(sort.value, DOWN.has(sort.value)) }, ORDERS.map((name) => h("option", { value: name }, t(`browse.sort_${name}`))));
  const way = h("button", { type: "button", class: "quiet browse-way", onclick: turn });
  const size = h("input", { type: "range", min: 90, max: 340, step: 10, class: "browse-size", "aria-label": t("browse.size"), title: t("browse.size"), value: String(memory.size), oninput: () => { memory.size = Number(size.value); look({ size: memory.size }); } });
  const sized = h("label", { class: "browse-sized" }, h("span", { class: "browse-sized-name" }, t("browse.size")), size);
  const square = h("button", { type: "button", class: "quiet", "aria-pressed": String(memory.square), "aria-label": t("browse.square"), title: t("browse.square"), onclick: () => { memory.square = !memory.square; square.setAttribute("aria-pressed", String(memory.square)); look({ square: memory.square }); } }, "▦");
  const trouble = h("div", { class: "browse-trouble", role: "alert", hidden: true });
  const bar = h("div", { class: "browse-tools" },
    h("div", { class: "row browse-row" },
      h("button", { type: "button", class: "browse-open", onclick: drawer }, t("browse.filters")),
      text, disclose, count, h("span", { class: "spring" }),
      more,
      h("button", { type: "button", class: "quiet browse-all", onclick: chooseAll }, t("browse.choose_all")),
      h("span", { class: "browse-sort row" }, sort, way), sized, square),
    sheet,
  );
  look({ size: memory.size, square: memory.square });

  function open(on) {
    sheet.hidden = !on;
    disclose.setAttribute("aria-expanded", String(on));
    if (on) where.focus();
  }

  function apply() {
    error.hidden = true;
    go({ where: where.value.trim() || null });
  }

  function order(name, down) {
    const seed = name === "random" ? `:${Math.floor(Math.random() * 1e6)}` : "";
    go({ sort: `${down ? "-" : ""}${name}${seed}` });
  }

  function turn() {
    if (sort.value === "random") order("random", false);
    else order(sort.value, !way.classList.contains("is-down"));
  }

  return {
    bar,
    trouble,
    text,
    /** Put what concerns the size there; null: back into the bar. */
    putSize(place) {
      (place || bar.firstElementChild).append(sized, square);
    },
    show(state) {
      const q = parameter("q");
      if (document.activeElement !== text || text.value.trim() !== q) text.value = q;
      const asked = parameter("where");
      if (document.activeElement !== where) where.value = asked;
      if (asked && sheet.hidden && document.activeElement !== where) disclose.setAttribute("aria-pressed", "true");
      else disclose.removeAttribute("aria-pressed");
      const now = parameter("sort") || state.sort || "name";
      sort.value = now.replace("-", "").split(":")[0];
      const down = now.startsWith("-");
      way.classList.toggle("is-down", down);
      way.textContent = sort.value === "random" ? "⟳" : down ? "↓" : "↑";
      const says = sort.value === "random" ? t("browse.again") : t(down ? "browse.descending" : "browse.ascending");
      way.setAttribute("aria-label", says);
      way.title = says;
      if (state.shown !== null) count.textContent = tn("browse.count", state.total);
    },
    /** What the server did not understand; beside the SQL where there is some. */
    fault(message) {
      const sql = Boolean(parameter("where")) && /SQL|predicate/i.test(message);
      error.hidden = !sql;
      error.textContent = sql ? message : "";
      trouble.hidden = sql || !message;
      fill(trouble, message && !sql ? message : null);
      if (sql && sheet.hidden) {
        sheet.hidden = false;
        disclose.setAttribute("aria-expanded", "true");
      }
    },
  };
}
