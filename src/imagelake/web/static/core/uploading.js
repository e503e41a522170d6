// The dialog that sends pictures into the lake: choose or drop them; what became of each stands beside it.

import { choose } from "./chosen.js";
import { announce, fill, h } from "./dom.js";
import { get, post } from "./server.js";
import { bytes, t, tn } from "./texts.js";

const AT_ONCE = 3;
const MOST = 100 * 2 ** 20;

/** Open the dialog; `files` may be there already, as when they were dropped on the page. */
export function openUpload(files = []) {
  const state = { waiting: [], busy: 0, added: [], refused: 0, known: 0, abort: new AbortController() };
  const list = h("ul", { class: "editing-files", tabindex: "0", "aria-label": t("edit.upload") });
  const word = h("p", { class: "hint", role: "status" });
  const input = h("input", { type: "file", multiple: true, accept: "image/*,.heic,.heif,.avif,.tif,.tiff", onchange: () => add(input.files) });
  const choosing = h("label", { class: "editing-drop" }, h("span", {}, t("edit.drop")), input);
  const both = h("button", { type: "button", hidden: true, onclick: () => { choose(state.added); dialog.close(); } }, t("edit.choose_new"));
  const dialog = h(
    "dialog",
    { class: "sheet editing-sheet", "aria-label": t("edit.upload"), onclose: () => { state.abort.abort(); dialog.remove(); told(state); } },
    h("h2", {}, t("edit.upload")),
    choosing, list, word,
    h("form", { method: "dialog", class: "row" }, h("span", { class: "spring" }), both, h("button", {}, t("core.close"))),
  );
  for (const kind of ["dragover", "dragleave", "drop"]) {
    choosing.addEventListener(kind, (event) => {
      event.preventDefault();
      choosing.classList.toggle("over", kind === "dragover");
      if (kind === "drop") add(event.dataTransfer.files);
    });
  }
  const add = (some) => {
    for (const file of some) {
      const row = rowOf(file);
      list.append(row.element);
      state.waiting.push({ file, row });
    }
    input.value = "";
    go();
  };
  const go = () => {
    while (state.busy < AT_ONCE && state.waiting.length) {
      state.busy += 1;
      sendOne(state, state.waiting.shift()).finally(() => { state.busy -= 1; go(); });
    }
    both.hidden = !state.added.length;
    if (state.busy || state.waiting.length) word.textContent = tn("edit.left", state.busy + state.waiting.length);
    else if (list.children.length) finish(state, word);
  };
  document.body.append(dialog);
  dialog.showModal();
  add(files);
}

function rowOf(file) {
  const word = h("span", { class: "editing-word" }, t("edit.waits"));
  const element = h("li", {}, h("span", { class: "editing-name" }, file.name), h("span", { class: "hint" }, bytes(file.size)), word);
  const say = (text, kind) => {
    word.textContent = text;
    element.dataset.state = kind;
  };
  return { element, say };
}

async function sendOne(state, { file, row }) {
  if (file.size > MOST) {
    state.refused += 1;
    row.say(t("edit.too_large", { most: bytes(MOST) }), "bad");
    return;
  }
  row.say(t("edit.sends"), "busy");
  try {
    const done = await post("upload", file, { name: file.name }, state.abort.signal);
    if (done.error) {
      state.refused += 1;
      row.say(done.error, "bad");
    } else {
      state.added.push(done.id);
      state.known += done.known ? 1 : 0;
      row.say(t(done.known ? "edit.known" : "edit.added"), "good");
    }
  } catch (error) {
    if (error.name === "AbortError") return;
    state.refused += 1;
    row.say(error.message, "bad");
  }
}

function told(state) {
  if (state.added.length > state.known) dispatchEvent(new CustomEvent("imagelake:uploaded", { detail: state.added }));
}

async function finish(state, word) {
  const values = { added: state.added.length - state.known, known: state.known, refused: state.refused };
  fill(word, t("edit.done", values));
  announce(t("edit.done", values));
  told(state);
  if (values.added) await follow(word);
}

/** What becomes of vectors for the new ones: they are made meanwhile, or a person has to. */
async function follow(word) {
  const line = h("span", { class: "editing-follow" });
  word.append(h("br"), line);
  for (let tries = 0; tries < 120 && word.isConnected; tries += 1) {
    const { state, run } = await get("upload").catch(() => ({ state: "idle" }));
    if (state === "told") fill(line, t("edit.run"), " ", h("code", {}, run));
    else line.textContent = state === "done" ? t("edit.searchable") : state === "idle" ? "" : t("edit.vectors");
    if (!["waiting", "working"].includes(state)) return;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}
