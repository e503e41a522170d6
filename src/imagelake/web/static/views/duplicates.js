// The view "duplicates": groups of copies, which one of each to keep, and lists of the others. It deletes nothing.

import { all, get as parameter, go, selection } from "../core/address.js";
import { announce, fill, h } from "../core/dom.js";
import { editingBar } from "../core/editing.js";
import { onKey } from "../core/keys.js";
import { get } from "../core/server.js";
import { t } from "../core/texts.js";
import { pages } from "../core/pages.js";
import { makeGroup } from "./duplicates/group.js";
import { makeList } from "./duplicates/list.js";
import { makeOutcome } from "./duplicates/outcome.js";
import { makeSettings } from "./duplicates/settings.js";

const OPTIONS = ["by", "bits", "near", "set"];
const RULE = ["pick", "under"];

/** Build the view in a section; `known` is what the server told of itself. */
export function mount(section, known) {
  const state = { told: null, total: 0, query: "", options: "", decisions: new Map(), index: -1, turn: 0, timer: 0 };
  const status = h("div", { class: "duplicates-status", role: "status" });
  const empty = h("div", { class: "duplicates-empty", hidden: true });
  const found = pages(async (offset, limit) => (await get("duplicates", asked({ offset, limit }))).groups, (start, groups) => {
    list.arrived();
    if (state.index >= start && state.index < start + groups.length) showGroup();
  });
  const decided = {
    /** What is decided of a group: by hand, else by the rule. */
    of: (group) => state.decisions.get(group.key) || { keeper: group.keeper, chosen: group.chosen },
    set(group, decision) {
      state.decisions.set(group.key, decision);
      list.arrived();
      showGroup();
      outcome.changed();
    },
    byHand: () => Object.fromEntries(state.decisions),
    forget() {
      state.decisions.clear();
      list.arrived();
      showGroup();
      outcome.changed();
    },
  };
  const settings = makeSettings(known);
  const list = makeList({ groupAt: (index) => found.get(index), want: found.want, decided, open: (index) => openGroup(index) });
  const group = makeGroup({ decided, step, close: () => go({ group: null, other: null }) });
  const outcome = makeOutcome({ query: () => asked({}), decided, count: () => state.decisions.size });
  const body = h("div", { class: "duplicates-body" }, list.element, group.element);
  fill(
    section,
    h("h1", { class: "visually-hidden" }, t("core.duplicates")),
    settings.element, status, empty, body, outcome.element, editingBar(known),
  );

  function asked(more) {
    const query = selection();
    for (const name of [...OPTIONS, ...RULE]) if (parameter(name)) query.set(name, parameter(name));
    for (const [name, value] of Object.entries(more)) query.set(name, value);
    return query;
  }

  /** Ask for the first groups, again and again while they are looked for. */
  async function load({ again = false } = {}) {
    const turn = ++state.turn;
    clearTimeout(state.timer);
    let told;
    try {
      const wanted = parameter("group");
      told = await get("duplicates", asked({ limit: 1, ...(wanted ? { key: wanted } : {}), ...(again ? { again: 1 } : {}) }));
    } catch (error) {
      told = { state: "failed", error: error.message };
    }
    if (turn !== state.turn) return;
    const news = told.groups && told.made_at !== state.told?.made_at;
    tell(told);
    if (told.state === "working") state.timer = setTimeout(() => !section.hidden && load(), told.total > 20_000 ? 700 : 250);
    if (told.groups) show(told, news);
  }

  function show(told, news) {
    if (news || state.shown !== state.query) {
      found.clear();
      state.shown = state.query;
    }
    state.told = told;
    state.total = told.total;
    list.size(told.total);
    outcome.told(told);
    if (parameter("group")) state.index = told.at ?? -1;
    else state.index = told.total ? 0 : -1;
    list.current(state.index, { scroll: true });
    showGroup();
  }

  function tell(told) {
    const looking = told.state === "working" && !told.groups;
    body.hidden = !told.groups || !told.total;
    outcome.element.hidden = body.hidden;
    empty.hidden = looking || !body.hidden;
    section.dataset.state = told.state;
    if (told.state === "failed") fill(empty, h("p", { role: "alert" }, told.error));
    else if (!looking) fill(empty, h("h2", {}, t("duplicates.none")), h("p", { class: "hint" }, t("duplicates.none_hint")));
    settings.told(told);
    fill(status, looking ? progress(told) : summary(told));
  }

  function progress(told) {
    return [
      h("progress", { max: told.total || 1, value: told.done || 0, "aria-label": t("duplicates.looking") }),
      h("span", {}, t("duplicates.looking_at", { done: told.done, total: told.total })),
    ];
  }

  function summary(told) {
    if (!told.groups) return [];
    const working = told.state === "working";
    return [
      told.changed && h("span", { class: "duplicates-old" }, t("duplicates.changed", { then: told.images, now: told.images_now })),
      told.changed && !working && h("button", { onclick: () => load({ again: true }) }, t("duplicates.again")),
      working && h("span", {}, t("duplicates.looking_at", { done: told.done, total: told.total })),
    ];
  }

  function showGroup() {
    const shown = state.index >= 0 ? found.get(state.index) : null;
    section.classList.toggle("has-group", Boolean(parameter("group")));
    if (state.index >= 0 && !shown) found.want(state.index, state.index + 1);
    group.show(shown, { index: state.index, total: state.total });
  }

  function openGroup(index, replace = false) {
    const next = found.get(index);
    if (next) go({ group: next.key, other: null }, { replace });
  }

  function step(by) {
    const index = Math.min(Math.max(state.index + by, 0), state.total - 1);
    if (index === state.index || index < 0) return;
    const open = () => {
      openGroup(index, true);
      announce(t("duplicates.group_of", { index: index + 1, total: state.total }));
    };
    if (found.get(index)) open();
    else {
      found.want(index, index + 1);
      list.current(index, { scroll: true });
    }
  }

  const key = (work) => (event) => (section.hidden || body.hidden || document.querySelector("dialog[open]") ? false : work(event));
  onKey("j", t("duplicates.key_next"), key(() => step(1)));
  onKey("k", t("duplicates.key_before"), key(() => step(-1)));
  onKey("ArrowRight", t("duplicates.key_file"), key((event) => group.other(1, event)));
  onKey("ArrowLeft", t("duplicates.key_file"), key((event) => group.other(-1, event)));
  onKey("p", t("duplicates.key_keep"), key(() => group.keep()));
  onKey("x", t("duplicates.key_choose"), key(() => group.toggle()));
  onKey("a", t("duplicates.key_all"), key(() => group.all()));
  onKey("c", t("duplicates.key_mode"), key(() => group.mode()));
  addEventListener("imagelake:uploaded", () => load());

  return {
    update() {
      const query = asked({}).toString();
      const options = new URLSearchParams(OPTIONS.map((name) => [name, parameter(name)])).toString();
      if (options !== state.options) state.decisions.clear();
      state.options = options;
      settings.update();
      if (query !== state.query || !state.told || state.told.state === "working") {
        state.query = query;
        return load();
      }
      const place = parameter("group") ? list.find(parameter("group")) : Math.max(0, state.total ? 0 : -1);
      if (place < 0) return load();
      state.index = place;
      list.current(place, { scroll: true });
      showGroup();
      return null;
    },
  };
}
