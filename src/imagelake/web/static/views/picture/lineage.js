// Where each vector of a picture comes from: picture, detector, model, vector, code; as a chain.

import { fill, h } from "../../core/dom.js";
import { number, t, time, tn } from "../../core/texts.js";
import { copyable, pairs } from "./words.js";

/** The chain of each embedding set and detector. */
export function lineage(section, picture) {
  const chains = (picture.lineage || []).map((entry, number) => chain(picture, entry, number === 0));
  fill(
    section,
    h("h2", {}, t("picture.lineage")),
    chains.length ? null : h("p", { class: "hint" }, t("picture.no_lineage")),
    chains,
  );
}

function chain(picture, entry, first) {
  const told = first ? [ingested(picture), [t("picture.content"), copyable(picture.id)]] : []; // said once
  const steps = [step("picture", t("picture.chain_picture"), picture.name, told)];
  if (entry.kind === "detector") steps.push(found(entry));
  else {
    if (entry.detector) steps.push(step("detector", t("picture.chain_detector"), entry.detector.model?.name, detecting(entry.detector)));
    steps.push(step("model", t("picture.chain_model"), entry.model?.name, model(entry.model || {})), vector(entry));
    for (const code of entry.codes || []) steps.push(coded(code));
  }
  return h("ol", { class: "picture-chain", dataset: { set: entry.set || entry.model?.name || "" } }, steps);
}

function step(kind, title, name, told) {
  return h("li", { class: `picture-step is-${kind}` }, h("h3", {}, title, name && h("span", {}, name)), pairs(told));
}

function ingested(picture) {
  const run = picture.ingested;
  const when = time(run?.finished_at || picture.file?.added_at);
  return [t("picture.ingested"), when && (run?.run ? `${when} · ${run.run}` : when)];
}

function detecting(detector) {
  return [
    ...model(detector.model || {}),
    [t("picture.labels_wanted"), detector.labels?.join(", ")],
    [t("picture.min_score"), detector.min_score],
    [t("picture.kept"), detector.keep && t(`picture.keep_${detector.keep}`)],
    [t("picture.margin"), detector.margin],
  ];
}

function found(entry) {
  return step("detector", t("picture.chain_detector"), entry.model?.name, [
    [t("picture.regions"), number(entry.regions)],
    [t("picture.fingerprint"), copyable(entry.fingerprint)],
  ]);
}

function model(told) {
  const input = told.input_wh ? `${told.input_wh.join(" × ")}, ${told.resize}` : told.shape?.join(" × ");
  const scaled = told.mean ? `(x − ${same(told.mean)}) ÷ ${same(told.std)}` : told.transforms?.join(" → ");
  return [
    [t("picture.weights"), copyable(told.sha256)],
    [t("picture.input"), input],
    [t("picture.preprocessing"), scaled],
    [t("picture.pooling"), told.pooling],
    [t("picture.head"), told.head],
    [t("picture.precision"), [told.architecture, told.precision].filter(Boolean).join(", ")],
    [t("picture.from"), told.source],
    [t("picture.licence"), told.licence],
  ];
}

const same = (values) => (new Set(values).size === 1 ? values[0] : `[${values.join(", ")}]`);

function vector(entry) {
  const of = entry.kind === "regions" ? tn("picture.vectors_of_regions", entry.vectors) : null;
  return step("vector", t("picture.chain_vector"), entry.set, [
    [t("picture.numbers"), [number(entry.dimensions), entry.model?.metric].filter(Boolean).join(" · ")],
    [t("picture.covers"), of],
    [t("picture.fingerprint"), copyable(entry.fingerprint)],
    [t("picture.made"), runs(entry)],
  ]);
}

/** With one run, it was that one; of several, nobody wrote down which. */
function runs(entry) {
  const all = entry.runs || [];
  if (!all.length) return null;
  const words = all.slice(0, 3).map((run) => `${time(run.finished_at)} · ${run.run || run.work} · ${run.engine || ""}`.replace(/ · $/, ""));
  if (entry.runs_count === 1) return words[0];
  return [t("picture.one_of_runs", { count: entry.runs_count }), h("br"), words.flatMap((each) => [each, h("br")])];
}

function coded(code) {
  return step("code", t("picture.chain_code"), code.set, [
    [t("picture.bits"), number(code.bits)],
    [t("picture.coder"), code.model?.name],
    [t("picture.head"), code.model?.head],
    [t("picture.fingerprint"), copyable(code.fingerprint)],
    [t("picture.codes_there"), code.codes ? number(code.codes) : t("picture.no_code_yet")],
  ]);
}
