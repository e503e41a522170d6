// The view "browse": all images of a selection as a grid, and what selects them.

import { all, go, href, selection } from "../core/address.js";
import { editingBar, uploadButton } from "../core/editing.js";
import { announce, fill, h } from "../core/dom.js";
import { makeFilters } from "../core/filters.js";
import { makeGrid } from "../core/grid.js";
import { onKey } from "../core/keys.js";
import { notice } from "../core/notice.js";
import { makeScrubber } from "../core/scrubber.js";
import { get, getBytes } from "../core/server.js";
import { choose } from "../core/chosen.js";
import { language, t, tn } from "../core/texts.js";
import { makeChips } from "./browse/chips.js";
import { makeTools } from "./browse/tools.js";
import { readLayout } from "./browse/layout.js";

const NO_MONTH = -32768;
const AGAIN_MS = 1500;
const WIDE = matchMedia("(min-width: 900px)");

/** Build the view in a section; `known` is what the server told of itself. */
export function mount(section, known) {
  const state = { shown: null, mark: "", sort: "", groups: null, total: 0, turn: 0, scrolls: new Map(), steps: false };
  const place = { grid: h("div", {}), scrubber: h("div", { hidden: true }), panel: h("aside", { class: "browse-panel", "aria-label": t("browse.filters") }), drawer: h("dialog", { class: "browse-drawer", "aria-label": t("browse.filters") }) };
  const empty = h("div", { class: "browse-empty", hidden: true });
  const soon = h("p", { class: "hint browse-soon", role: "status", hidden: true });
  const grid = makeGrid(place.grid, {
    label: t("core.browse"),
    ask: async (offset, limit) => {
      const page = await get("browse", asked({ offset, limit }));
      if (page.mark !== state.mark && state.mark) refresh();
      return page.items;
    },
    idsBetween: async (start, end) => (await get("browse/ids", asked({ offset: start, limit: end - start }))).ids,
    heading: (index) => month(state.groups?.[index]),
    like: known.search ? (item) => href({ view: "search", like: item.id }) : null,
  });
  const scrubber = makeScrubber(place.scrubber, grid, { yearOf: (index) => year(state.groups?.[index]), monthOf: (index) => month(state.groups?.[index]) });
  const facets = h("div", { class: "filters" });
  const filters = makeFilters(facets);
  const done = h("button", { class: "primary" }, t("browse.done"));
  const chips = makeChips();
  const tools = makeTools({ look: (next) => { grid.look(next); scrubber.show(Boolean(state.groups)); }, drawer: openDrawer, chooseAll, more: uploadButton(known) });
  place.drawer.append(h("form", { method: "dialog", class: "browse-drawer-head" }, h("h2", {}, t("browse.filters")), done));
  place.drawer.addEventListener("close", settlePanel);
  place.drawer.addEventListener("click", (event) => event.target === place.drawer && place.drawer.close());
  WIDE.addEventListener("change", () => { if (place.drawer.open) place.drawer.close(); settlePanel(); });
  fill(
    section,
    h("h1", { class: "visually-hidden" }, t("core.browse")),
    tools.bar,
    h("div", { class: "browse-body" }, place.panel, h("div", { class: "browse-main" }, chips.element, tools.trouble, soon, empty, place.grid), place.scrubber),
    place.drawer,
    editingBar(known),
  );
  settlePanel();
  if (!known.images) tellEmpty();
  onKey("/", t("browse.key_text"), () => tools.text.focus());
  onKey("f", t("browse.filters"), () => (WIDE.matches ? facets.querySelector("section:not([hidden]) button")?.focus() : openDrawer()));
  onKey("x", t("browse.key_choose"), () => false); // the grid hears it where the focus is; the help tells of it
  onKey("X", t("browse.key_range"), () => false);
  addEventListener("popstate", () => { state.steps = true; }, { capture: true });
  addEventListener("imagelake:tags", () => { state.mark = ""; refresh(); lookAgain(); });
  addEventListener("imagelake:again", () => refresh());
  addEventListener("imagelake:uploaded", () => { refresh(); lookAgain(); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && !section.hidden) look(); });

  function settlePanel() {
    (WIDE.matches ? place.panel : place.drawer).append(facets);
    place.panel.hidden = !WIDE.matches;
    tools.putSize(WIDE.matches ? null : place.drawer);
  }

  function openDrawer() {
    place.drawer.showModal();
  }

  function asked(more) {
    const query = selection();
    for (const [name, value] of Object.entries(more)) query.set(name, value);
    return query;
  }

  async function update() {
    const query = selection().toString();
    const steps = state.steps;
    state.steps = false;
    tools.show(state);
    chips.show();
    if (query === state.shown && !state.failed) {
      grid.draw();
      look();
      return;
    }
    if (state.shown !== null) state.scrolls.set(state.shown, scrollY);
    await read(query, { top: true });
    if (steps && state.shown === query) scrollTo(0, state.scrolls.get(query) || 0);
  }

  /** Read the selection of the address; what was shown stays until the new one is there. */
  async function read(query, { top }) {
    const mine = ++state.turn;
    section.setAttribute("aria-busy", "true");
    const counts = get("facets", query).catch(() => null); // the layout tells the same fault
    try {
      const { bytes, headers } = await getBytes("browse/layout", query);
      if (mine !== state.turn) return;
      take(query, bytes, headers, top);
      const told = await counts;
      if (mine !== state.turn || !told) return;
      filters.show(told.facets);
      known.images = told.images;
      if (!told.images) tellEmpty();
      else empty.hidden = state.total > 0;
    } catch (error) {
      if (mine !== state.turn) return;
      if (error.status === 0 || error.status === 401) throw error;
      state.shown = query;
      state.failed = true;
      tools.fault(error.message);
    } finally {
      if (mine === state.turn) section.removeAttribute("aria-busy");
    }
  }

  function take(query, bytes, headers, top) {
    const { ratios, colors, months } = readLayout(bytes);
    const changed = state.shown !== query;
    const sort = headers.get("X-Sort") || "";
    Object.assign(state, { shown: query, failed: false, total: ratios.length, mark: headers.get("X-Mark"), sort });
    state.groups = sort.replace("-", "") === "taken_at" ? months : null;
    tools.fault("");
    tellSoon(headers.get("X-Partial") === "1");
    done.textContent = tn("browse.show", state.total);
    tools.show(state);
    chips.show();
    if (changed && top && scrollY > grid.offset()) scrollTo(0, 0);
    grid.show({ ratios, colors, groups: state.groups }, { top: changed && top });
    scrubber.show(Boolean(state.groups));
    announce(tn("browse.found", state.total));
    if (!state.total && known.images) fill(empty, h("h2", {}, t("browse.nothing")), h("p", { class: "hint" }, t("browse.nothing_hint")), h("button", { onclick: chips.clear }, t("browse.clear")));
    empty.hidden = state.total > 0;
  }

  let later = 0;
  /** The EXIF is still being read: this list is of names, labels and tags, and is made again in a moment. */
  function tellSoon(partial) {
    clearTimeout(later);
    soon.hidden = !partial;
    soon.textContent = partial ? t("browse.exif_soon") : "";
    if (partial) later = setTimeout(refresh, AGAIN_MS);
  }

  function tellEmpty() {
    empty.hidden = false;
    fill(empty, h("h2", {}, t("browse.empty")), h("p", { class: "hint" }, t("browse.empty_hint")), h("pre", { tabindex: "0" }, "imagelake ingest FOLDER --lake LAKE"));
  }

  let reading = false;
  /** The lake has changed: show it as it is now, where somebody looks. */
  async function refresh() {
    if (reading || section.hidden || state.shown === null) return;
    reading = true;
    try {
      await read(selection().toString(), { top: false });
    } catch {
      // the next look tells
    } finally {
      reading = false;
    }
  }

  /** A large lake is read for a while: what was changed may be there a moment later. */
  function lookAgain() {
    for (const milliseconds of [1500, 6000]) setTimeout(() => !section.hidden && look(), milliseconds);
  }

  async function look() {
    const page = await get("browse", asked({ limit: 0 })).catch(() => null);
    if (page && page.mark !== state.mark) refresh();
  }

  async function chooseAll() {
    try {
      const { ids } = await get("browse/ids", selection());
      choose(ids);
      announce(tn("browse.chosen", ids.length));
    } catch (error) {
      notice(error.message);
    }
  }

  return { update };
}

const month = (value) => (value === undefined ? "" : value === NO_MONTH ? t("browse.none_year") : when(value, { year: "numeric", month: "long" }));
const year = (value) => (value === undefined || value === NO_MONTH ? "" : when(value, { year: "numeric" }));

const formats = new Map();
function when(value, options) {
  const name = JSON.stringify(options);
  if (!formats.has(name)) formats.set(name, new Intl.DateTimeFormat(language, { timeZone: "UTC", ...options }));
  return formats.get(name).format(new Date(Date.UTC(1970, value, 15)));
}
