// An open map notices what was done to the lake: new pictures take their places, new tags their colors.

import { forgetItems, markNow } from "./data.js";

const LOOK_MS = 15_000;

/**
 * Look now and then, while `shown()`, whether the lake changed: `moved()` is called where the points are others,
 * `changed()` where only what is known of them is. Gives the function that looks at once.
 */
export function watch(state, { shown, moved, changed }) {
  let busy = false;
  async function look() {
    if (busy || document.hidden || !shown() || !state.about || state.job) return;
    busy = true;
    try {
      if (!state.points) {
        if (!state.about.sets.length) await moved();
        return;
      }
      const { set, method, points } = state;
      const { lake, mark } = await markNow(set, method);
      if (state.points !== points || !mark) return;
      const before = state.lake;
      state.lake = lake;
      if (mark !== points.mark) await moved();
      else if (before && before !== lake) await changed();
    } catch {
      // the page says where the server is gone
    } finally {
      busy = false;
    }
  }
  setInterval(look, LOOK_MS);
  document.addEventListener("visibilitychange", look);
  for (const name of ["imagelake:uploaded", "imagelake:again"]) addEventListener(name, look);
  addEventListener("imagelake:tags", () => {
    forgetItems();
    changed();
  });
  return look;
}
