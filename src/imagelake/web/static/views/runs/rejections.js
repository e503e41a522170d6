// What was rejected: reasons by how often, and the files of each, searched and paged by the address.

import { get as parameter, go, href } from "../../core/address.js";
import { fill, h, later } from "../../core/dom.js";
import { get } from "../../core/server.js";
import { bytes, number, t, time, tn } from "../../core/texts.js";

const PAGE = 20;

/** The list in an element; update() shows what the address asks for: `find`, `kind`, `from`. */
export function rejectionList(place) {
  const search = h("input", { type: "search", "aria-label": t("runs.find"), placeholder: t("runs.find"), oninput: later(250, () => go({ find: search.value, from: null }, { replace: true })) });
  const count = h("span", { class: "hint", role: "status" });
  const save = h("a", { class: "button", download: "rejections.csv" }, t("runs.csv"));
  const kinds = h("div", { class: "runs-kinds" });
  const rows = h("div", {});
  const bar = h("div", { class: "row runs-find" }, search, save, count);
  fill(place, bar, kinds, rows);
  let asked = null;
  let wanted = null;
  return {
    async update() {
      const [find, kind, from] = [parameter("find"), parameter("kind"), Math.max(0, Number.parseInt(parameter("from"), 10) || 0)];
      const key = JSON.stringify([find, kind, from]);
      if (key === asked) return;
      asked = key;
      if (document.activeElement !== search) search.value = find;
      save.href = `page/api/rejections/export?${new URLSearchParams({ text: find, kind })}`;
      wanted?.abort();
      wanted = new AbortController();
      try {
        const found = await get("rejections", { text: find, kind, offset: from, limit: PAGE }, wanted.signal);
        const none = !found.total && !find && !kind;
        bar.hidden = none;
        count.textContent = tn("runs.files", found.total);
        fill(kinds, found.kinds.map((each) => kindLink(each, kind)));
        fill(rows, none ? h("p", { class: "hint" }, t("runs.nothing_rejected")) : table(found.rows), pages(found.total, from));
      } catch (error) {
        if (error.name === "AbortError") return;
        asked = null;
        fill(rows, h("p", { class: "runs-bad" }, error.message));
      }
    },
  };
}

function kindLink({ kind, stage, count }, chosen) {
  const on = kind === chosen;
  return h(
    "a",
    { class: on ? "runs-kind is-on" : "runs-kind", href: href({ kind: on ? null : kind, from: null }), "aria-current": on ? "true" : null },
    h("strong", {}, number(count)),
    h("span", {}, kind),
    h("span", { class: "chip" }, stage),
  );
}

function table(rows) {
  if (!rows.length) return null;
  return h(
    "div",
    { class: "runs-scroll", tabindex: "0", role: "region", "aria-label": t("runs.rejected") },
    h(
      "table",
      { class: "table" },
      h("thead", {}, h("tr", {}, ["file", "reason", "size", "when"].map((head) => h("th", { scope: "col", class: head === "size" ? "num" : null }, t(`runs.${head}`))))),
      h(
        "tbody",
        {},
        rows.map((row) =>
          h(
            "tr",
            {},
            h("td", { class: "runs-uri" }, row.uri),
            h("td", {}, row.reason),
            h("td", { class: "num" }, row.byte_size === null ? "–" : bytes(row.byte_size)),
            h("td", { class: "runs-when" }, time(row.rejected_at)),
          ),
        ),
      ),
    ),
  );
}

function pages(total, from) {
  if (total <= PAGE) return null;
  const link = (to, text) => (to < 0 || to >= total ? null : h("a", { class: "button", href: href({ from: to || null }) }, text));
  return h(
    "div",
    { class: "row runs-pages" },
    link(from > 0 ? Math.max(0, from - PAGE) : -1, t("runs.newer")),
    h("span", { class: "hint" }, t("runs.span", { first: from + 1, last: Math.min(from + PAGE, total), total })),
    link(from + PAGE, t("runs.older")),
  );
}
