// The page: its head, and the view that the address names.

import { all, get as parameter, onChange } from "./core/address.js";
import { fill, h } from "./core/dom.js";
import { watchDrops } from "./core/dropping.js";
import { buildHead, markHead, VIEWS } from "./core/head.js";
import { isTyping, onKey } from "./core/keys.js";
import { notice } from "./core/notice.js";
import { get } from "./core/server.js";
import { logIn } from "./core/session.js";
import { helpSheet } from "./core/sheets.js";
import { loadTexts, t } from "./core/texts.js";
import { keepTheme } from "./core/theme.js";

const KEYS = { browse: "b", search: "s", map: "m", duplicates: "d", atlas: "e", runs: "r" };
const RETRY_MS = 3000;
const mounted = new Map(); // view -> {section, update, scroll, focus, image}
let known = {}; // what the server told of itself
let current = ""; // the view that is shown
let turn = 0; // counts changes of the address: the last one wins

async function start() {
  keepTheme();
  const asked = ask(); // beside the texts
  await loadTexts();
  skipLink();
  buildHead(() => known);
  known = await asked;
  while (known.error) known = await again(known.error);
  onKey("?", t("core.help"), helpSheet);
  for (const view of VIEWS) {
    onKey(`g ${KEYS[view]}`, t(`core.${view}`), () => document.querySelector(`[data-view="${view}"]`)?.click());
  }
  addEventListener("imagelake:key", () => logIn().then(() => location.reload())); // the address holds what was shown
  addEventListener("imagelake:gone", wait);
  watchDrops();
  onChange(show);
  await show();
}

const ask = () => get("about").catch((error) => ({ error }));

/** What the server tells after all: once somebody has logged in, or asks again. */
async function again(error) {
  if (error.status === 401) await logIn();
  else {
    await new Promise((resolve) => {
      fill(document.getElementById("main"), trouble(error, resolve));
      if ([0, 503].includes(error.status)) setTimeout(resolve, RETRY_MS); // it begins, or is begun again
    });
  }
  document.getElementById("main").replaceChildren();
  return ask();
}

function trouble(error, retry) {
  return h("div", { class: "trouble", role: "alert" }, h("h1", {}, t("core.trouble")), h("p", {}, error.status ? error.message : t("core.unreachable")), h("button", { class: "primary", onclick: retry }, t("core.retry")));
}

/** Show the view of the address; views stay as they were while others are shown. */
async function show() {
  const mine = ++turn;
  const name = [...VIEWS, "picture"].includes(parameter("view")) ? parameter("view") : "browse";
  markHead(name);
  const returns = mounted.has(name) && name !== current;
  try {
    const view = mounted.get(name) || (await mount(name));
    if (mine !== turn) return;
    const moved = swap(name, view);
    document.title = `${t(`core.${name}`)} · imagelake`;
    await view.update(all());
    if (mine === turn && moved) settle(view, returns);
  } catch (error) {
    if (mine === turn && error.name !== "AbortError") notice(error.message, { action: { text: t("core.retry"), work: show } });
  }
}

/** Without a fragment in the address: a browser that comes back to one takes the focus there by itself. */
function skipLink() {
  const link = document.getElementById("skip");
  link.textContent = t("core.skip");
  link.addEventListener("click", (event) => {
    event.preventDefault();
    document.getElementById("main").focus();
  });
}

async function mount(name) {
  const module = await import(`./views/${name}.js`);
  if (mounted.has(name)) return mounted.get(name); // asked for twice meanwhile
  const section = h("section", { class: `view view-${name}`, "aria-label": t(`core.${name}`), tabindex: "-1", hidden: true });
  document.getElementById("main").append(section);
  const view = { section, update: module.mount(section, known).update, scroll: 0, focus: null, image: "" };
  mounted.set(name, view);
  return view;
}

/** Put a view in place of the one that is shown; tells whether it was another one. */
function swap(name, view) {
  const before = mounted.get(current);
  if (before === view) return false;
  if (before) {
    before.scroll = scrollY;
    before.focus = before.section.contains(document.activeElement) ? document.activeElement : null;
    before.image = before.focus?.closest(".tile")?.dataset.id || "";
    before.section.hidden = true;
  }
  view.section.hidden = false;
  current = name;
  return Boolean(before);
}

/** Where somebody reads on in a view that was opened: where they were, or at its top. */
function settle(view, returns) {
  scrollTo(0, returns ? view.scroll : 0);
  if (isTyping(document.activeElement) || document.querySelector("dialog[open]")) return;
  const target = (returns && placeOf(view)) || view.section.querySelector("h1") || view.section;
  if (!target.matches("a[href], button, input, select, textarea, [tabindex]")) target.setAttribute("tabindex", "-1");
  target.focus({ preventScroll: true });
}

/** What had the focus when a view was left: the same image, where a list has filled its places anew. */
function placeOf(view) {
  if (view.image) return view.section.querySelector(`.tile[data-id="${CSS.escape(view.image)}"]`);
  return view.focus?.isConnected ? view.focus : null;
}

let waiting = false;

/** The server cannot be reached: look again until it can. */
async function wait() {
  if (waiting) return;
  waiting = true;
  notice(t("core.unreachable"));
  for (let found = { error: true }; found.error && found.error.status !== 401; ) {
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    found = await ask();
  }
  waiting = false;
  notice(t("core.back_again"), { error: false });
  dispatchEvent(new Event("imagelake:again")); // a view may ask again for what failed meanwhile
  await show();
}

start().catch((error) => notice(error.message));
