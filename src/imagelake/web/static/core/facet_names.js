// What facets and their values are called for people.

import { country, t } from "./texts.js";

export const NONE = "∅";
export const FACETS = ["label", "tag", "year", "place", "camera", "folder", "format", "flag", "set", "gps"];

/** The name of a facet. */
export const facetName = (name) => t(`browse.facet_${name}`);

/** The name of a value; `shared` is what all folders begin with. */
export function valueName(facet, value, shared = "") {
  if (value === NONE) return t(`browse.none_${facet}`);
  if (facet === "gps") return t(value === "yes" ? "browse.gps_yes" : "browse.gps_no");
  if (facet === "format") return value.toUpperCase();
  if (facet === "flag") return known(`browse.flag_${value}`, value);
  if (facet === "bounds") return t("browse.bounds");
  if (facet === "folder") return value.slice(shared.length).replace(/^\//, "") || value.split("/").pop() || value;
  if (facet === "place") {
    const [code, ...place] = value.split("/");
    return place.length ? `${place.join("/")}, ${country(code)}` : country(code);
  }
  return value;
}

function known(name, otherwise) {
  const text = t(name);
  return text === name ? otherwise : text;
}

/** The folder that all of some folders lie in, or "". */
export function sharedFolder(folders) {
  if (!folders.length) return "";
  let shared = folders[0].split("/");
  for (const each of folders) {
    const parts = each.split("/");
    let same = 0;
    while (same < shared.length && shared[same] === parts[same]) same++;
    shared = shared.slice(0, same);
  }
  if (folders.length === 1) shared.pop();
  return shared.join("/");
}
