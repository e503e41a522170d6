// How somebody likes the grid: kept in this browser.

import { remember, remembered } from "../../core/memory.js";

const phone = matchMedia("(max-width: 700px)").matches;

export const memory = {
  get size() {
    return Math.min(Math.max(Number(remembered("size")) || (phone ? 120 : 190), 90), 340);
  },
  set size(value) {
    remember("size", String(value));
  },
  get square() {
    return remembered("square") === "yes";
  },
  set square(value) {
    remember("square", value ? "yes" : "");
  },
};
