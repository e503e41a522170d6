// Which models made what is in the lake, and how many images each has covered.

import { fill, h } from "../../core/dom.js";
import { get } from "../../core/server.js";
import { number, t, tn } from "../../core/texts.js";

/** The tables in an element: load() asks for them. */
export function modelTables(element, known) {
  return {
    element,
    async load() {
      const told = await get("runs/models");
      const cards = [
        ...told.embeddings.map((each) => embeddingCard(each, told.images, known)),
        ...told.codes.map((each) => codesCard(each)),
        ...told.regions.map((each) => countCard("runs.detector", "runs.regions", each)),
        ...told.predictions.map((each) => countCard("runs.classifier", "runs.predictions", each)),
      ];
      const none = !told.embeddings.length && told.images > 0;
      fill(
        element,
        none && h("p", {}, t("runs.no_vectors"), " ", h("code", {}, `imagelake extract --lake ${known.name}`)),
        h("div", { class: "runs-cards" }, cards),
      );
    },
  };
}

function card(kind, name, ...rest) {
  return h("article", { class: "card runs-card" }, h("div", { class: "hint" }, t(kind)), h("h3", {}, name), rest);
}

function embeddingCard(each, images, known) {
  const share = images ? each.covered / images : 0;
  const whole = each.of === "images";
  return card(
    whole ? "runs.embeddings" : "runs.region_embeddings",
    each.name,
    h("p", { class: "hint" }, t("runs.made_by", { model: each.model, dimensions: each.dimensions, metric: each.metric, precision: each.precision })),
    each.detector && h("p", { class: "hint" }, t("runs.found_by", { detector: each.detector })),
    h("div", { class: "runs-share runs-cover", "aria-hidden": "true" }, h("span", { style: { width: `${100 * share}%` } })),
    h("p", {}, t(whole ? "runs.coverage" : "runs.region_coverage", { covered: each.covered, images, vectors: each.vectors })),
    whole && each.covered < images && h("p", {}, t("runs.cover_rest"), " ", h("code", {}, `imagelake extract --lake ${known.name}`)),
  );
}

function codesCard(each) {
  return card("runs.codes", each.name, h("p", {}, t("runs.code_count", { bits: each.bits, count: each.codes })), each.of.length > 0 && h("p", { class: "hint" }, t("runs.codes_of", { sets: each.of.join(", ") })));
}

function countCard(kind, text, each) {
  return card(kind, each.model || "–", h("p", {}, tn(text, each.count, { images: number(each.images) })));
}
