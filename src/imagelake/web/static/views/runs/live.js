// What the server does now: asked every two seconds while somebody looks, and not otherwise.

import { fill, h } from "../../core/dom.js";
import { get } from "../../core/server.js";
import { language, number, t } from "../../core/texts.js";

const EVERY = 2000; // milliseconds
const KEPT = 60; // answers that the line shows

/** The figures in `place`: start() begins to ask; it ends by itself when the section or the tab is hidden. */
export function liveFigures(section, place) {
  const state = { timer: 0, asking: false, before: null, rates: [], section, place };
  const start = () => {
    if (state.timer) return;
    state.timer = setInterval(() => ask(state), EVERY);
    ask(state);
  };
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !section.hidden) start();
  });
  return { start };
}

async function ask(state) {
  if (document.hidden || state.section.hidden) {
    clearInterval(state.timer);
    state.timer = 0;
    state.before = null;
    return;
  }
  if (state.asking) return; // a slow server is not asked twice
  state.asking = true;
  try {
    show(state, await get("health"));
  } catch (error) {
    fill(state.place, h("p", { class: "runs-bad", role: "status" }, error.message));
  } finally {
    state.asking = false;
  }
}

function show(state, health) {
  const answered = health.models.reduce((sum, each) => sum + each.answered + each.failed, 0);
  if (state.before) {
    const rate = Math.max(0, answered - state.before.answered) / Math.max(health.up_s - state.before.up_s, 0.1);
    state.rates = [...state.rates, rate].slice(-KEPT);
  }
  state.before = { answered, up_s: health.up_s };
  const waiting = health.models.reduce((sum, each) => sum + each.waiting, 0);
  const old = state.place.querySelector(".runs-scroll"); // who reads on in it stays where they are
  const [left, focused] = [old?.scrollLeft, old !== null && old === document.activeElement];
  const refused = Object.values(health.http?.refused || {}).reduce((sum, each) => sum + each, 0);
  fill(
    state.place,
    h(
      "dl",
      { class: "runs-figures" },
      figure("state", t(`runs.is_${health.state}`), health.state === "ready" ? "runs-good" : "runs-warn"),
      figure("up", lasting(health.up_s)),
      figure("waiting", number(waiting), waiting ? "runs-warn" : null),
      health.http && figure("in_flight", number(health.http.in_flight)),
      health.http && figure("http", number(health.http.answered)),
      health.http && figure("failed", number(health.http.failed), health.http.failed ? "runs-bad" : null),
      health.http && figure("refused", number(refused), refused ? "runs-bad" : null),
      figure("per_s", number(state.rates.at(-1) || 0, 1), null, line(state.rates)),
    ),
    health.models.length ? models(health.models) : h("p", { class: "hint" }, t("runs.no_models")),
  );
  const fresh = state.place.querySelector(".runs-scroll");
  if (fresh && old) fresh.scrollLeft = left;
  if (focused) fresh?.focus({ preventScroll: true });
}

function figure(name, text, mark = null, more = null) {
  return h("div", { class: "runs-figure", dataset: { figure: name } }, h("dt", {}, t(`runs.${name}`)), h("dd", { class: mark }, text, more));
}

/** Requests a second over the last two minutes. */
function line(rates) {
  const most = Math.max(...rates, 1);
  const points = rates.map((rate, index) => `${(index + KEPT - rates.length) * 2},${(22 - (rate / most) * 20).toFixed(1)}`).join(" ");
  return h("svg", { class: "runs-line", viewBox: `0 0 ${KEPT * 2} 24`, "aria-hidden": "true" }, h("polyline", { points }));
}

function lasting(seconds) {
  const [value, unit] = seconds < 120 ? [seconds, "second"] : seconds < 7200 ? [seconds / 60, "minute"] : seconds < 172800 ? [seconds / 3600, "hour"] : [seconds / 86400, "day"];
  return new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: 0 }).format(value);
}

function models(all) {
  const heads = ["model", "waiting", "answered", "failed", "mean", "p50", "p95", "queue", "compute"];
  const ms = (value) => h("td", { class: "num" }, value === null || value === undefined ? "–" : t("runs.ms", { value: number(value, value < 10 ? 2 : 0) }));
  const row = (each) =>
    h(
      "tr",
      { dataset: { model: each.name } },
      h("th", { scope: "row" }, each.name, h("span", { class: "hint" }, ` ${each.version}`)),
      h("td", { class: "num" }, number(each.waiting)),
      h("td", { class: "num", dataset: { what: "answered" } }, number(each.answered)),
      h("td", { class: each.failed ? "num runs-bad" : "num", title: outcomes(each.outcomes) }, number(each.failed)),
      ms(each.mean_ms),
      ms(each.p50_ms),
      ms(each.p95_ms),
      ms(each.queue_ms),
      ms(each.compute_ms),
    );
  return h(
    "div",
    { class: "runs-scroll", tabindex: "0", role: "region", "aria-label": t("runs.served") },
    h(
      "table",
      { class: "table" },
      h("caption", { class: "visually-hidden" }, t("runs.served")),
      h("thead", {}, h("tr", {}, heads.map((head, index) => h("th", { scope: "col", class: index ? "num" : null }, t(`runs.${head}`))))),
      h("tbody", {}, all.map(row)),
    ),
  );
}

const outcomes = (counts) => Object.entries(counts).map(([name, count]) => `${name} ${count}`).join(", ");
