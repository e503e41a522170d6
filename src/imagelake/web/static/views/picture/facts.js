// What is known of a picture: camera, time, place, file, figures, and all that its file says of itself.

import { href } from "../../core/address.js";
import { announce, fill, h } from "../../core/dom.js";
import { bytes, country, number, t, time, tn } from "../../core/texts.js";
import { smallMap } from "../../core/worldmap.js";
import { only } from "./tags.js";
import { copyable, pairs } from "./words.js";

const SHARES = ["bright_share", "flat_share", "crisp_share"];

let map = null; // of the picture shown

/** When, with what and where it was taken. */
export function taken(section, picture) {
  map?.end();
  map = null;
  const { camera = {}, place = {}, words = {} } = picture;
  const told = pairs([
    [t("picture.title"), words.title],
    [t("picture.caption"), words.caption],
    [t("picture.taken"), moment(picture.time || {})],
    [t("picture.camera"), cameraOf(camera)],
    [t("picture.lens"), camera.lens],
    [t("picture.exposure"), exposure(camera)],
    [t("picture.rating"), stars(words.rating)],
    [t("picture.keywords"), words.keywords?.join(", ")],
    [t("picture.creator"), words.creator],
    [t("picture.copyright"), words.copyright],
  ]);
  fill(section, told || (place.latitude === undefined && h("p", { class: "hint" }, t("picture.nothing_taken"))));
  if (place.latitude === undefined || place.longitude === undefined) return;
  const drawn = h("div", { class: "picture-map" });
  section.append(pairs([[t("picture.place"), where(place)]]), drawn);
  map = smallMap(drawn, place.latitude, place.longitude);
}

function cameraOf(camera) {
  const { camera_make: make = "", camera_model: model = "" } = camera;
  const name = model.toLowerCase().startsWith(make.toLowerCase()) ? model : `${make} ${model}`.trim();
  return name || null;
}

/** As photographers write it: 50 mm · ƒ/1.8 · 1/200 s · ISO 100. */
function exposure({ exposure_s: seconds, f_number: aperture, iso, focal_length_mm: focal }) {
  const shown = [
    focal && `${number(focal, 1)} mm`,
    aperture && `ƒ/${number(aperture, 1)}`,
    seconds > 0 && (seconds < 0.3 ? `1/${number(1 / seconds, 1 / seconds < 10 ? 1 : 0)} s` : `${number(seconds, 1)} s`),
    iso && `ISO ${iso}`,
  ];
  return shown.filter(Boolean).join(" · ") || null;
}

/** The clock on the wall, its zone, and what makes it known. */
function moment({ taken_at: local, taken_at_utc: utc, utc_offset_minutes: offset, taken_at_source: source }) {
  const shown = local || utc;
  if (!shown) return null;
  const zone = offset === undefined ? (local ? "" : " UTC") : ` ${offsetWords(offset)}`;
  const key = source ? `picture.source_${source.replaceAll("+", "_")}` : "";
  const why = key && t(key) !== key ? t(key) : source;
  return [time(shown.replace(/(Z|[+-]\d\d:\d\d)$/, "")) + zone, why && h("small", {}, why)];
}

function offsetWords(minutes) {
  const size = Math.abs(minutes);
  const clock = `${Math.floor(size / 60)}${size % 60 ? `:${String(size % 60).padStart(2, "0")}` : ""}`;
  return `UTC${minutes < 0 ? "−" : "+"}${clock}`;
}

function stars(rating) {
  if (rating === undefined) return null;
  if (rating < 0) return t("picture.rejected");
  return h("span", { role: "img", "aria-label": tn("picture.stars", rating) }, "★".repeat(rating) + "☆".repeat(Math.max(0, 5 - rating)));
}

function where(place) {
  const { latitude, longitude, altitude_m: height } = place;
  const name = [place.place, place.country_code ? country(place.country_code) : place.country].filter(Boolean).join(", ");
  const degrees = (value, plus, minus) => `${number(Math.abs(value), 5)}° ${value < 0 ? minus : plus}`;
  const shown = `${degrees(latitude, "N", "S")}, ${degrees(longitude, "E", "W")}`;
  return [
    name && h("span", {}, name),
    h("a", { class: "picture-coordinates", href: href({ view: "map", id: null, at: `${latitude.toFixed(5)},${longitude.toFixed(5)},11` }), title: t("picture.on_map") }, shown),
    height !== undefined && h("small", {}, t("picture.altitude", { meters: Math.round(height) })),
  ];
}

/** The file: where it was seen, its form. */
export function file(section, picture) {
  const { file: told = {}, uris = [] } = picture;
  const turned = told.orientation > 1 ? t("picture.turned", { number: told.orientation }) : null;
  fill(
    section,
    h("h2", {}, t("picture.file")),
    pairs([
      [t("picture.size"), `${number(picture.width)} × ${number(picture.height)} · ${number((picture.width * picture.height) / 1e6, 1)} MP`],
      [t("picture.format"), [told.format?.toUpperCase(), told.mode, told.byte_size !== undefined && bytes(told.byte_size)].filter(Boolean).join(" · ")],
      [t("picture.frames"), told.frames > 1 && number(told.frames)],
      [t("picture.orientation"), turned],
      [t("picture.added"), time(told.added_at)],
      [tn("picture.seen_as", picture.uris_count || 0), uris.map((uri) => h("span", { class: "picture-uri" }, uri))],
      [t("picture.content"), copyable(picture.id, 16)],
      [t("picture.hash"), copyable(told.perceptual_hash, 16)],
    ]),
    (picture.rejections || []).length ? [h("h3", {}, t("picture.rejections")), h("ul", { class: "picture-plain" }, picture.rejections.map(rejection))] : null,
  );
}

function rejection(told) {
  return h("li", {}, `${told.stage}: ${told.reason} `, h("small", {}, [time(told.rejected_at), told.uri].filter(Boolean).join(" · ")));
}

/** What was measured in its pixels, and the flags that follow. */
export function figures(section, picture) {
  const told = picture.figures || {};
  const shown = ["brightness", "contrast", "sharpness", "entropy", ...SHARES]
    .filter((name) => told[name] !== undefined)
    .map((name) => [t(`picture.figure_${name}`), SHARES.includes(name) ? `${number(told[name] * 100, 1)} %` : number(told[name], 1)]);
  const more = Object.keys(told)
    .filter((name) => !["brightness", "contrast", "sharpness", "entropy", ...SHARES].includes(name))
    .map((name) => [name, number(told[name], 2)]);
  fill(
    section,
    h("h2", {}, t("picture.figures")),
    h("ul", { class: "picture-flags" }, (picture.flags || []).map(flag)),
    pairs(shown, "picture-figures"),
    more.length ? h("details", {}, h("summary", {}, t("picture.more_figures")), pairs(more, "picture-figures")) : null,
  );
}

function flag(told) {
  const key = `picture.flag_${told.name}`;
  const why = t(key) === key ? "" : t(key);
  const rule = told.rule && told.value !== undefined ? ` ${told.rule.split(",")[0]}: ${number(told.value, 3)}` : "";
  return h("li", {}, h("a", { class: "chip", href: only({ "f.flag": told.name }) }, told.name.replaceAll("_", " ")), why, h("small", {}, rule));
}

/** EXIF, XMP, IPTC and what the source said, behind a fold, with a filter. */
export function metadata(section, picture) {
  const trees = Object.entries(picture.trees || {});
  if (!trees.length) {
    fill(section, h("h2", {}, t("picture.metadata")), h("p", { class: "hint" }, t("picture.no_metadata")));
    return;
  }
  const lines = [];
  const blocks = trees.map(([name, pairsOf]) => {
    const body = h("tbody", {}, pairsOf.map(([key, value]) => {
      const line = h("tr", {}, h("th", { scope: "row" }, key), h("td", {}, value));
      lines.push([line, `${key} ${value}`.toLowerCase()]);
      return line;
    }));
    return h("details", { open: trees.length === 1 && pairsOf.length < 12 }, h("summary", {}, name === "metadata" ? t("picture.of_source") : name.toUpperCase(), h("small", {}, ` ${pairsOf.length}`)), h("table", { class: "picture-tree" }, body));
  });
  const sift = (event) => {
    const word = event.target.value.trim().toLowerCase();
    let left = 0;
    for (const [line, text] of lines) {
      line.hidden = Boolean(word) && !text.includes(word);
      left += line.hidden ? 0 : 1;
    }
    for (const block of blocks) {
      block.hidden = ![...block.querySelectorAll("tr")].some((line) => !line.hidden);
      if (word) block.open = !block.hidden;
    }
    announce(tn("picture.lines", left));
  };
  fill(
    section,
    h("h2", {}, t("picture.metadata")),
    h("input", { type: "search", placeholder: t("picture.filter"), "aria-label": t("picture.filter"), oninput: sift }),
    blocks,
  );
}
