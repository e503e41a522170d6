// The view "search": what is nearest to a picture, to a part of it, or to an image of the lake.

import { go, selection } from "../core/address.js";
import { boxing } from "../core/boxing.js";
import { onPicture } from "../core/dropping.js";
import { announce, fill, h } from "../core/dom.js";
import { onKey } from "../core/keys.js";
import { notice } from "../core/notice.js";
import { get, post } from "../core/server.js";
import { bytes, t } from "../core/texts.js";
import { addressForm, chooser, startPanel } from "./search/intake.js";
import { optionsPanel } from "./search/options.js";
import { showResults, spoken, summary } from "./search/results.js";

const LARGEST = 32 * 2 ** 20;
const KEPT_FILES = 8;

/** Build the view in a section; `known` is what the server told of itself. */
export function mount(section, known) {
  if (!known.search) return withoutVectors(section, known);
  const state = { sets: null, asked: "", shown: null, abort: null, sending: null, files: new Map() };
  const box = boxing({ onBox: (each) => go({ box: each ? each.join(",") : null }) });
  const options = optionsPanel();
  const start = startPanel({ onFile: sendFile, onAddress: sendAddress });
  const title = h("h1", { class: "visually-hidden" }, t("core.search"));
  const name = h("p", { class: "search-title" });
  const line = h("div", { class: "search-summary row" });
  const word = h("div", { class: "search-word", role: "status" });
  const results = h("div", { class: "search-results", "aria-label": t("search.results"), role: "region" });
  const other = h("details", { class: "search-other" }, h("summary", {}, t("search.another")), chooser({ onFile: sendFile }), addressForm(sendAddress));
  const aside = h("div", { class: "search-query" }, name, box.element, options.element, other, help());
  const pair = h("div", { class: "search-pair", hidden: true }, aside, h("div", { class: "search-found" }, line, word, results));
  section.append(h("div", { class: "search-veil", "aria-hidden": "true" }, h("p", {}, t("search.drop_here"))), start.element, pair);
  aside.before(title);

  onPicture(({ file, id, url }) => {
    if (file) sendFile(file);
    else if (id) go({ view: "search", like: id, query: null, url: null, box: null, id: null });
    else sendAddress(url);
  });
  onKey("Escape", t("search.escape"), () => {
    const running = state.sending || state.abort;
    if (section.hidden || !running) return false;
    running.abort();
    return true;
  });

  async function sendFile(file) {
    if (file.size > LARGEST) return notice(t("search.too_large", { size: bytes(file.size), most: bytes(LARGEST) }));
    await send(file, { url: null }, file.name || "");
  }

  function sendAddress(url) {
    return send({ url }, { url }, url);
  }

  /** Give the server a picture, and go to the search with it. */
  async function send(body, changes, called) {
    state.sending?.abort();
    const abort = (state.sending = new AbortController());
    busy(t(body.url ? "search.fetching" : "search.sending"));
    try {
      const picture = await post("search/query", body, null, abort.signal);
      if (body instanceof Blob) remember(picture.id, body);
      picture.name = called;
      state.shown = picture;
      scrollTo(0, 0);
      go({ view: "search", like: null, query: picture.id, box: null, id: null, ...changes });
    } catch (error) {
      failed(error, abort);
    } finally {
      if (state.sending === abort) state.sending = null;
      if (!state.abort && !state.sending) busy("");
    }
  }

  function remember(id, file) {
    state.files.set(id, file);
    if (state.files.size > KEPT_FILES) state.files.delete(state.files.keys().next().value);
  }

  /** What is looked for; a picture that the server forgot is sent again where it is still here. */
  async function pictureOf(id, signal) {
    if (state.shown?.id === id) return state.shown;
    try {
      return await get(`search/query/${id}`, null, signal);
    } catch (error) {
      const file = state.files.get(id);
      if (error.status !== 404 || !file) throw error;
      return post("search/query", file, null, signal);
    }
  }

  async function update(params) {
    const id = params.get("like") || params.get("query");
    pair.hidden = !id;
    start.element.hidden = Boolean(id);
    if (!id) {
      state.abort?.abort();
      state.asked = "";
      const field = start.element.querySelector("[name=address]");
      if (params.get("url") && !field.value) field.value = params.get("url"); // fetched when somebody asks for it
      return start.offer();
    }
    const asked = question(params);
    if (asked.toString() === state.asked) return undefined;
    if (state.shown?.id !== id) scrollTo(0, 0);
    state.asked = asked.toString();
    return search(params, id, asked);
  }

  async function search(params, id, asked) {
    state.abort?.abort();
    const abort = (state.abort = new AbortController());
    busy(t("search.searching"));
    try {
      state.sets ||= await get("search/sets", null, abort.signal);
      options.show(params, state.sets);
      state.shown = await pictureOf(id, abort.signal);
      showQuery(params);
      const began = performance.now();
      const answer = await get("search", asked, abort.signal);
      const took = performance.now() - began;
      fill(line, summary(answer, took));
      fill(word, smallLake(answer), answer.in_lake && params.get("query") ? h("p", { class: "hint" }, t("search.in_lake")) : null);
      showResults(results, answer, state.sets.line);
      announce(spoken(answer));
    } catch (error) {
      if (state.abort === abort) state.asked = ""; // it may be asked again
      failed(error, abort, params);
    } finally {
      if (state.abort === abort) {
        state.abort = null;
        busy("");
      }
    }
  }

  function showQuery(params) {
    const { shown } = state;
    const image = shown.kind === "image";
    const src = image ? `page/api/picture/${shown.id}/large?side=1024` : `page/api/search/preview/${shown.id}?side=1024`;
    name.textContent = shown.name || t("search.your_picture");
    const sides = (params.get("box") || "").split(",").map(Number);
    box.show({ ...shown, src, alt: name.textContent, ready: shown.regions }, sides.length === 4 ? sides : null);
  }

  /** Nothing moves while something is looked for: what was found before stays, dimmed. */
  function busy(text) {
    results.classList.toggle("busy", Boolean(text));
    section.setAttribute("aria-busy", String(Boolean(text)));
    if (text) announce(text);
  }

  function failed(error, abort, params = null) {
    if (error.name === "AbortError") {
      if (abort === state.abort || abort === state.sending) announce(t("search.stopped"));
      return;
    }
    const url = params?.get("url");
    if (!params || error.status === 0) return notice(error.message);
    fill(line);
    fill(results);
    fill(word, h("div", { class: "card search-trouble", role: "alert" }, h("p", {}, error.message),
      error.status === 404 && [chooser({ onFile: sendFile, primary: true }), url && addressForm(sendAddress, url)]));
    return undefined;
  }

  function smallLake({ better, images }) {
    const { least } = state.sets;
    return better === null ? h("p", { class: "hint" }, t(images < least ? "search.too_few" : "search.not_calibrated", { least })) : null;
  }

  return { update };
}

/** What the server is asked, as a query string. */
function question(params) {
  const asked = selection();
  asked.delete("sort");
  for (const name of ["like", "query", "box", "k", "codes", "set"]) {
    if (params.get(name)) asked.set(name, params.get(name));
  }
  return asked;
}

const help = () =>
  h("details", { class: "search-help" }, h("summary", {}, t("search.help")), ["help_bar", "help_cut", "help_limits", "help_exact"].map((each) => h("p", {}, t(`search.${each}`))));

function withoutVectors(section, known) {
  section.append(
    h("div", { class: "search-start" },
      h("h1", {}, t("search.no_vectors")),
      h("p", {}, t("search.no_vectors_hint")),
      h("pre", { class: "card" }, h("code", {}, `imagelake extract --lake ${known.name}`))),
  );
  return { update() {} };
}
