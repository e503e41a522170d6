// What the embedding map asks the server: points, colors, which ones are selected, their images.

import { selection } from "../../core/address.js";
import { saveBlob } from "../../core/listing.js";
import { intoSquare } from "../../core/scatter.js";
import { get, getBytes, post } from "../../core/server.js";

export const OTHERS = 254;
export const NOTHING = 255;

/** The points of a map: {count, total, mark, method, places, id(i)}; {job} while it is being made. */
export async function loadPoints(set, method, signal) {
  const { told, bytes, at } = await framed("atlas", { set, method }, signal);
  if (told.job) return told;
  const places = intoSquare(new Float32Array(bytes, at, 2 * told.count));
  const halves = new Uint32Array(bytes, at + 8 * told.count, 2 * told.count);
  const hex = (value) => value.toString(16).padStart(8, "0");
  return { ...told, places, id: (i) => hex(halves[2 * i + 1]) + hex(halves[2 * i]) };
}

/** The colors by a column: {kind, legend, mark, codes} or {kind, legend, mark, values}. */
export async function loadColors(set, method, column, signal) {
  const { told, bytes, at } = await framed("atlas/colors", { set, method, column }, signal);
  return told.kind === "categories" ? { ...told, codes: new Uint8Array(bytes, at) } : { ...told, values: new Float32Array(bytes, at) };
}

/** Which points the address selects: {count, mark, mask}; null where it selects all. */
export async function loadSelected(set, method, signal) {
  const params = selection();
  params.delete("sort");
  if (![...params].length) return null;
  params.append("set", set);
  params.append("method", method);
  const { told, bytes, at } = await framed("atlas/selected", params, signal);
  return { ...told, mask: new Uint8Array(bytes, at) };
}

const known = new Map(); // the items of those that were asked for

/** The images of some points, as tiles have them. */
export async function loadItems(ids) {
  const missing = ids.filter((id) => !known.has(id));
  if (missing.length) {
    if (known.size > 5000) known.clear();
    for (const item of (await post("atlas/items", { ids: missing })).items) known.set(item.id.slice(0, 16), item);
  }
  return ids.map((id) => known.get(id)).filter(Boolean);
}

/** Forget the items, for their tags changed. */
export const forgetItems = () => known.clear();

/** What a map is now: {lake, mark}, marks that differ whenever the lake or its points do, or {job}. */
export const markNow = (set, method) => get("atlas/mark", { set, method });

/** The whole ids of many points. */
export const wholeIds = async (ids) => (await post("atlas/ids", { ids })).ids;

/** Save some points, or with `ids` null all, as a file: "csv", "json" or "parquet". */
export async function save(set, method, format, ids) {
  const query = new URLSearchParams({ set, method, format });
  const options = { headers: { "X-Imagelake-Page": "1", "Content-Type": "application/json" }, credentials: "same-origin" };
  if (ids) Object.assign(options, { method: "POST", body: JSON.stringify({ ids }) });
  const answer = await fetch(`page/api/atlas/export?${query}`, options);
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error || answer.statusText);
  saveBlob(`embedding-map.${format}`, await answer.blob());
}

async function framed(path, params, signal) {
  const { bytes, headers } = await getBytes(path, params, signal);
  if ((headers.get("Content-Type") || "").startsWith("application/json")) return { told: JSON.parse(new TextDecoder().decode(bytes)), bytes, at: 0 };
  const length = new DataView(bytes).getUint32(0, true);
  return { told: JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, length))), bytes, at: 4 + length };
}
