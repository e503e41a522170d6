// Colors of points. The twelve of a theme were chosen so that any two differ: by 0.15 and more (OKLab) for most people,
// by 0.065 and more as seen without red, green or blue receptors; each stands out from the ground 3:1.

const LIGHT = ["#f04bc3", "#690f00", "#699600", "#000f96", "#b40f5a", "#0087f0", "#692dd2", "#1e5a3c", "#4b0f5a", "#965a00", "#ff4b4b", "#3c8787"];
const DARK = ["#a500ff", "#ffff78", "#2da578", "#d2b4ff", "#d21e4b", "#0fffff", "#f078a5", "#69690f", "#00f000", "#4b78c3", "#ffc387", "#d2780f"];

/** The twelve colors of categories, as [r, g, b]. */
export const categories = (dark) => (dark ? DARK : LIGHT).map(parse);

/** What values that have no color of their own share, and what points without a value have. */
export const others = (dark) => (dark ? [165, 175, 186] : [86, 95, 105]);
export const nothing = (dark) => (dark ? [95, 103, 112] : [160, 168, 176]);

/** What points have where nothing is colored. */
export const plain = (dark) => (dark ? [79, 209, 197] : [15, 118, 110]);

/** 256 colors from low to high, even steps of lightness: [[r, g, b]]; the dark end is left out on a dark ground. */
export function scale(dark) {
  const [from, to] = dark ? [0.45, 0.97] : [0.3, 0.84];
  return Array.from({ length: 256 }, (_, step) => {
    const share = step / 255;
    return fromOklch(from + (to - from) * share, 0.07 + 0.09 * Math.sin(Math.PI * (0.25 + 0.6 * share)), 295 - 190 * share);
  });
}

export const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;

function parse(text) {
  return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
}

/** Björn Ottosson's OKLab: equal steps look equal. */
function fromOklch(light, chroma, hue) {
  const a = chroma * Math.cos((hue * Math.PI) / 180);
  const b = chroma * Math.sin((hue * Math.PI) / 180);
  const l = (light + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (light - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (light - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ].map((value) => Math.round(255 * encode(Math.min(Math.max(value, 0), 1))));
}

const encode = (value) => (value <= 0.0031308 ? 12.92 * value : 1.055 * value ** (1 / 2.4) - 0.055);
