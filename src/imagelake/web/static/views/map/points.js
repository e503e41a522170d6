// The positions of the selected pictures, as the server sends them: 16 bytes a picture.

import { getBytes } from "../../core/server.js";
import { toX, toY } from "../../core/worlddata.js";

/** Positions of a selection: {count, latitudes, longitudes, xs, ys, id(index), without, unnamed}. */
export async function loadPoints(selection, signal) {
  const { bytes, headers } = await getBytes("points", selection, signal);
  const count = bytes.byteLength / 16;
  const keys = new BigUint64Array(bytes, 0, count);
  const latitudes = new Float32Array(bytes, 8 * count, count);
  const longitudes = new Float32Array(bytes, 12 * count, count);
  return {
    count,
    latitudes,
    longitudes,
    xs: Float64Array.from(longitudes, toX),
    ys: Float64Array.from(latitudes, toY),
    id: (index) => keys[index].toString(16).padStart(16, "0"),
    without: Number(headers.get("X-Imagelake-Without")),
    unnamed: Number(headers.get("X-Imagelake-Unnamed")),
  };
}

/** Which points lie in {west, south, east, north}, in their order. */
export function within(points, { west, south, east, north }) {
  const { latitudes, longitudes, count } = points;
  const found = [];
  for (let each = 0; each < count; each++) {
    if (latitudes[each] < south || latitudes[each] > north) continue;
    const longitude = longitudes[each];
    if (west <= east ? longitude >= west && longitude <= east : longitude >= west || longitude <= east) found.push(each);
  }
  return found;
}

/** The smallest {west, south, east, north} around some points (all where none are named); null where there are none. */
export function around(points, some = null) {
  const indexes = some || points.latitudes.keys();
  const [used, least, most] = [new Uint8Array(360), new Float32Array(360).fill(999), new Float32Array(360).fill(-999)];
  let [south, north] = [90, -90];
  for (const each of indexes) {
    const longitude = points.longitudes[each];
    const slot = Math.min(359, Math.floor(longitude + 180));
    used[slot] = 1;
    least[slot] = Math.min(least[slot], longitude);
    most[slot] = Math.max(most[slot], longitude);
    south = Math.min(south, points.latitudes[each]);
    north = Math.max(north, points.latitudes[each]);
  }
  if (south > north) return null;
  const after = widestGap(used); // the first slot behind the widest empty stretch
  let last = (after + 359) % 360;
  while (!used[last]) last = (last + 359) % 360;
  return { west: least[after], east: most[last], south, north };
}

/** The slot behind the longest run of empty ones, around the circle; ties go to the run over the date line. */
function widestGap(used) {
  const taken = [...used.keys()].filter((slot) => used[slot]);
  let [best, gap] = [taken[0], taken[0] + 360 - taken.at(-1)];
  for (let each = 1; each < taken.length; each++) {
    if (taken[each] - taken[each - 1] > gap) [best, gap] = [taken[each], taken[each] - taken[each - 1]];
  }
  return best;
}

/** Bounds as the address has them: rounded outwards, so that what was in them stays. */
export function boundsText({ west, south, east, north }) {
  const [down, up] = [(value) => Math.floor(value * 1e5) / 1e5, (value) => Math.ceil(value * 1e5) / 1e5];
  const parts = [Math.max(down(west), -180), Math.max(down(south), -90), Math.min(up(east), 180), Math.min(up(north), 90)];
  return parts.map((value) => String(Number(value.toFixed(5)))).join(",");
}

/** Bounds of the address; null where they are none. */
export function readBounds(text) {
  const [west, south, east, north] = (text || "").split(",").map(Number);
  return [west, south, east, north].every(Number.isFinite) && text ? { west, south, east, north } : null;
}
