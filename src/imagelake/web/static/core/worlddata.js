// The world that ships with the page: land in three levels of detail, borders, where countries' names go.
// Everything here is in "world" units: x and y from 0 to 1, Web Mercator, y downwards. scripts/world_map.py makes the file.

const FILE = new URL("../world.bin", import.meta.url);
const MOST = 85.05112878; // degrees, where the square of Web Mercator ends
let loading = null;

/** Longitude to x; whole turns stay whole numbers. */
export const toX = (longitude) => longitude / 360 + 0.5;

/** Latitude to y. */
export function toY(latitude) {
  const sine = Math.sin((Math.max(-MOST, Math.min(MOST, latitude)) * Math.PI) / 180);
  return 0.5 - Math.log((1 + sine) / (1 - sine)) / (4 * Math.PI);
}

/** x to longitude, from -180 to 180. */
export const toLongitude = (x) => (x - Math.floor(x)) * 360 - 180;

/** y to latitude. */
export const toLatitude = (y) => (Math.atan(Math.sinh(Math.PI * (1 - 2 * y))) * 180) / Math.PI;

/**
 * The world, loaded once: {levels: [[block]], borders: [line], countries: [{code, x, y, width}]}. A block is
 * {path: Path2D, left, top, right, bottom} to be filled even-odd.
 */
export function loadWorld() {
  loading ??= fetch(FILE)
    .then((answer) => answer.arrayBuffer())
    .then(read)
    .catch((error) => {
      loading = null;
      throw error;
    });
  return loading;
}

/** Read the file;. */
export function read(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const next = numbers(new Uint8Array(buffer, 4 + length));
  const levels = head.levels.map((level) => level.blocks.map((block) => readBlock(level, block, next)));
  const borders = readLines(head.borders, next);
  const countries = head.countries.map(([number, longitude, latitude, degrees]) => ({
    code: codeOf(number),
    x: toX(longitude),
    y: toY(latitude),
    width: degrees / 360,
  }));
  return { levels, borders, countries, sources: head.sources };
}

/** A function that gives the next signed number of a stream of zigzag varints. */
function numbers(bytes) {
  let at = 0;
  return () => {
    let value = 0;
    let shift = 0;
    let byte;
    do {
      byte = bytes[at++];
      value |= (byte & 127) << shift;
      shift += 7;
    } while (byte > 127);
    return value & 1 ? -((value + 1) >>> 1) : value >>> 1;
  };
}

function readBlock(level, [column, row, rings], next) {
  const path = new Path2D();
  const tall = Math.min(level.size, 180);
  const left = level.x + column * level.size;
  const top = level.y - row * tall;
  for (let ring = 0; ring < rings; ring++) {
    let x = 0;
    let y = 0;
    for (let rest = next(), first = true; rest > 0; rest--, first = false) {
      x += next();
      y += next();
      path[first ? "moveTo" : "lineTo"](toX(left + x / level.step), toY(top - y / level.step));
    }
    path.closePath();
  }
  return { path, left: toX(left), right: toX(left + level.size), top: toY(top), bottom: toY(top - tall) };
}

function readLines({ lines, step }, next) {
  let x = 0;
  let y = 0;
  return Array.from({ length: lines }, () => {
    const path = new Path2D();
    const box = { path, left: 9, right: -9, top: 9, bottom: -9 };
    const count = next();
    for (let each = 0; each < count; each++) {
      x += next();
      y += next();
      const [atX, atY] = [toX(x / step - 180), toY(90 - y / step)];
      path[each ? "lineTo" : "moveTo"](atX, atY);
      box.left = Math.min(box.left, atX);
      box.right = Math.max(box.right, atX);
      box.top = Math.min(box.top, atY);
      box.bottom = Math.max(box.bottom, atY);
    }
    return box;
  });
}

/** The two letters of a country, out of its ISO 3166 number: browsers know them. */
function codeOf(number) {
  try {
    return new Intl.Locale(`und-${String(number).padStart(3, "0")}`).region;
  } catch {
    return "";
  }
}
