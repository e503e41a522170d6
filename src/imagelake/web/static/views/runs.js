// The view "runs": what was done to the lake, what went wrong, its models, and what the server does now.

import { fill, h } from "../core/dom.js";
import { get } from "../core/server.js";
import { bytes, number, t, time, tn } from "../core/texts.js";
import { liveFigures } from "./runs/live.js";
import { modelTables } from "./runs/models.js";
import { rejectionList } from "./runs/rejections.js";

const FIRST = 20;
const MOST = 500;
const FRESH = 10_000; // milliseconds

/** Build the view in a section; `known` is what the server told of itself. */
export function mount(section, known) {
  const part = (name) => {
    const body = h("div", { class: "runs-body" });
    section.append(h("section", { class: "runs-part", "aria-labelledby": `runs-${name}` }, h("h2", { id: `runs-${name}` }, t(`runs.${name}`)), body));
    return body;
  };
  section.append(h("h1", { class: "visually-hidden" }, t("core.runs")));
  const live = liveFigures(section, part("live"));
  const past = part("past");
  const rejected = rejectionList(part("rejected"), known);
  const models = modelTables(part("models"), known);
  const storage = part("storage");
  let limit = FIRST;
  const showRuns = async () => fillRuns(past, await get("runs", { limit }), () => {
    limit = MOST;
    attempt(past, showRuns);
  });
  let loadedAt = -FRESH;
  return {
    update() {
      live.start();
      rejected.update();
      if (performance.now() - loadedAt < FRESH) return; // a step within the view
      loadedAt = performance.now();
      attempt(past, showRuns);
      attempt(models.element, models.load);
      attempt(storage, async () => fillStorage(storage, (await get("runs/storage")).tables));
    },
  };
}

/** Do some work; where it fails its place says why. */
async function attempt(place, work) {
  try {
    await work();
  } catch (error) {
    fill(place, h("p", { class: "runs-bad" }, error.message));
  }
}

function fillRuns(place, { runs, total }, showMore) {
  if (!runs.length) {
    fill(place, h("p", { class: "hint" }, t("runs.none")));
    return;
  }
  const heads = ["when", "work", "found", "added", "known", "rejected", "seconds", "rate", "stages"];
  const numeric = new Set(["found", "added", "known", "rejected", "seconds", "rate"]);
  fill(
    place,
    h(
      "div",
      { class: "runs-scroll", tabindex: "0", role: "region", "aria-label": t("runs.past") },
      h(
        "table",
        { class: "table runs-table" },
        h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col", class: numeric.has(head) ? "num" : null }, t(`runs.${head}`))))),
        h("tbody", {}, runs.map(runRow)),
      ),
    ),
    total > runs.length && h("p", {}, h("button", { onclick: showMore }, tn("runs.all", total))),
  );
}

function runRow(run) {
  const lasted = run.started_at ? (new Date(run.finished_at) - new Date(run.started_at)) / 1000 : null;
  const count = (value, mark) => h("td", { class: value && mark ? `num ${mark}` : "num" }, number(value));
  return h(
    "tr",
    {},
    h("td", { class: "runs-when" }, time(run.finished_at)),
    h("td", {}, h("strong", {}, run.work), run.engine && run.engine !== "local" ? ` (${run.engine})` : "", h("div", { class: "hint runs-subject", title: run.subject }, run.subject || "")),
    count(run.found),
    count(run.added, "runs-good"),
    count(run.known),
    count(run.rejected, "runs-bad"),
    h("td", { class: "num" }, lasted === null ? "–" : number(lasted, 1)),
    h("td", { class: "num" }, run.images_per_s === null ? "–" : number(run.images_per_s, 1)),
    h("td", { class: "runs-stages" }, stages(run.stages)),
  );
}

/** Where the time went: a bar, and the same in numbers. */
function stages(seconds) {
  const parts = Object.entries(seconds).filter(([, spent]) => spent > 0).sort((a, b) => b[1] - a[1]);
  if (!parts.length) return "–";
  const all = parts.reduce((sum, [, spent]) => sum + spent, 0);
  const color = (index) => `runs-stage runs-stage-${Math.min(index, 5)}`;
  return [
    h("div", { class: "runs-bar", "aria-hidden": "true" }, parts.map(([, spent], index) => h("span", { class: color(index), style: { "flex-grow": String(spent / all) } }))),
    h("ul", { class: "runs-legend" }, parts.slice(0, 6).map(([name, spent], index) => h("li", {}, h("span", { class: `runs-dot ${color(index)}`, "aria-hidden": "true" }), `${name} ${t("runs.s", { seconds: number(spent, spent < 10 ? 2 : 0) })}`))),
  ];
}

function fillStorage(place, tables) {
  const all = tables.reduce((sum, each) => sum + (each.bytes || 0), 0);
  const most = Math.max(...tables.map((each) => each.bytes || 0), 1);
  const row = (each) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, each.name),
      h("td", { class: "num" }, number(each.rows)),
      h("td", { class: "num" }, number(each.versions)),
      h("td", { class: "num" }, each.bytes === null ? "–" : bytes(each.bytes)),
      h("td", { class: "runs-share" }, h("span", { style: { width: `${(100 * (each.bytes || 0)) / most}%` } })),
    );
  fill(
    place,
    h("p", {}, t("runs.on_disk", { bytes: bytes(all) })),
    h(
      "div",
      { class: "runs-scroll", tabindex: "0", role: "region", "aria-label": t("runs.storage") },
      h(
        "table",
        { class: "table" },
        h("thead", {}, h("tr", {}, ["table", "rows", "versions", "size"].map((head, index) => h("th", { scope: "col", class: index ? "num" : null }, t(`runs.${head}`))), h("td", {}))),
        h("tbody", {}, tables.map(row)),
      ),
    ),
  );
}
