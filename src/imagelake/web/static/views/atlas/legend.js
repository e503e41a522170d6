// What the colors mean: values with counts, which can be pressed to see only those; or a scale with its ends.

import { fill, h } from "../../core/dom.js";
import { categories, css, nothing, others, scale } from "../../core/palette.js";
import { isDark } from "../../core/theme.js";
import { number, t, time } from "../../core/texts.js";
import { NOTHING, OTHERS } from "./data.js";

/** [code, what it is called, how many, its color] of each entry of a legend of categories. */
export function entries({ legend }, dark = isDark()) {
  const colors = categories(dark);
  const found = legend.values.map(([name, count], code) => [code, name, count, colors[code]]);
  if (legend.others) found.push([OTHERS, t("atlas.others", { count: legend.other_values }), legend.others, others(dark)]);
  if (legend.nothing) found.push([NOTHING, t("atlas.nothing"), legend.nothing, nothing(dark)]);
  return found;
}

/** Show the legend; `only` is the set of codes that are bright, `toggle(code)` changes it. */
export function showLegend(element, colors, only, toggle) {
  if (!colors) return fill(element);
  if (colors.kind !== "categories") return fill(element, bar(colors));
  return fill(
    element,
    h("ul", { class: "atlas-values" }, entries(colors).map(([code, name, count, color]) =>
      h("li", {}, h(
        "button",
        { type: "button", class: "atlas-value", "aria-pressed": String(only.has(code)), onclick: () => toggle(code), dataset: { code } },
        h("span", { class: "atlas-dot", style: { background: css(color) } }),
        h("span", { class: "atlas-name" }, name),
        h("span", { class: "atlas-count" }, number(count)),
      )),
    )),
  );
}

function bar({ kind, legend }) {
  if (legend.low === null) return h("p", { class: "hint" }, t("atlas.novalues"));
  const steps = scale(isDark()).filter((_, at) => at % 17 === 0).map(css);
  const show = (value) => (kind === "times" ? time(value, false) : number(value, Math.abs(value) < 10 ? 3 : 0));
  return h(
    "div",
    { class: "atlas-scale" },
    h("div", { class: "atlas-bar", style: { background: `linear-gradient(to right, ${steps.join(", ")})` } }),
    h("div", { class: "atlas-ends" }, h("span", {}, show(legend.low)), h("span", {}, show(legend.high))),
    h("p", { class: "hint" }, [
      legend.log && t("atlas.log"),
      t("atlas.range", { low: show(legend.ends[0]), high: show(legend.ends[1]) }),
      legend.nothing > 0 && t("atlas.without", { count: legend.nothing }),
    ].filter(Boolean).join(" ")),
  );
}

/** The color of each point: Uint8Array of red, green, blue and how bright, four a point. */
export function paint({ count, colors, plain, mask, only, picked }) {
  const dark = isDark();
  const rgba = new Uint8Array(4 * count);
  const codes = table(colors, dark, plain);
  const [strong, middle, weak] = [235, picked ? 70 : 235, dark ? 46 : 34];
  for (let i = 0; i < count; i++) {
    const [red, green, blue] = codes(i);
    const bright = (!mask || mask[i]) && (!only.size || !colors?.codes || only.has(colors.codes[i]));
    const alpha = !bright ? weak : !picked || picked.has(i) ? strong : Math.max(middle, 130);
    rgba.set([red, green, blue, alpha], 4 * i);
  }
  return rgba;
}

function table(colors, dark, plain) {
  if (!colors) return () => plain;
  if (colors.kind !== "categories") {
    const [steps, none] = [scale(dark), nothing(dark)];
    return (i) => (Number.isNaN(colors.values[i]) ? none : steps[Math.round(colors.values[i] * 255)]);
  }
  const found = Array.from({ length: 256 }, () => nothing(dark));
  for (const [code, , , color] of entries(colors, dark)) found[code] = color;
  return (i) => found[colors.codes[i]];
}
