// One group: its files, which of them is kept, which go, and two of them beside each other.

import { get as parameter, go, href } from "../../core/address.js";
import { announce, fill, h } from "../../core/dom.js";
import { thumbnail } from "../../core/server.js";
import { bytes, number, t, time } from "../../core/texts.js";
import { makeCompare } from "./compare.js";

/** `decided.of(group)` and `decided.set(group, decision)`; `step(by)` shows another group, `close()` none. */
export function makeGroup({ decided, step, close }) {
  const compare = makeCompare();
  const where = h("span", { class: "duplicates-where" });
  const why = h("span", { class: "hint" });
  const files = h("ul", { class: "duplicates-files" });
  const element = h(
    "section",
    { class: "duplicates-group", "aria-label": t("duplicates.group") },
    h(
      "div",
      { class: "duplicates-head" },
      h("button", { class: "duplicates-back", onclick: close }, t("duplicates.back")),
      h("button", { class: "quiet", onclick: () => step(-1), "aria-label": t("duplicates.key_before"), title: `${t("duplicates.key_before")} (k)` }, "↑"),
      h("button", { class: "quiet", onclick: () => step(1), "aria-label": t("duplicates.key_next"), title: `${t("duplicates.key_next")} (j)` }, "↓"),
      where, why,
      h("span", { class: "spring" }),
      h("button", { onclick: () => all() }, t("duplicates.all_but_keeper")),
      h("button", { onclick: () => none() }, t("duplicates.keep_all")),
    ),
    files,
    compare.element,
  );
  let group = null;
  let shown = ""; // what the files show, as text

  const kept = () => group.files.find((each) => each.key === decided.of(group).keeper) || group.files[0];
  const rest = () => group.files.filter((each) => each !== kept());
  const looked = () => rest().find((each) => each.key === parameter("other")) || rest()[0] || kept();
  const look = (file) => go({ other: file.key }, { replace: true });

  function decide(keeper, chosen) {
    decided.set(group, { keeper, chosen: chosen.filter((each) => each !== keeper) });
  }

  /** Keep this file; the one kept until now goes where others go already. */
  function keep(file = looked()) {
    const now = decided.of(group);
    if (!file || file.key === now.keeper) return;
    const chosen = now.chosen.length ? [...now.chosen, now.keeper] : [];
    go({ other: now.keeper }, { replace: true });
    decide(file.key, chosen);
    announce(t("duplicates.kept_now", { name: file.name }));
  }

  function toggle(file = looked()) {
    const now = decided.of(group);
    if (file.key === now.keeper) return;
    const goes = !now.chosen.includes(file.key);
    decide(now.keeper, goes ? [...now.chosen, file.key] : now.chosen.filter((each) => each !== file.key));
    announce(t(goes ? "duplicates.goes_now" : "duplicates.stays_now", { name: file.name }));
  }

  const all = () => group && decide(kept().key, group.files.map((each) => each.key));
  const none = () => group && decide(kept().key, []);

  function card(file, now) {
    const isKept = file.key === now.keeper;
    const goes = now.chosen.includes(file.key);
    const isLooked = !isKept && file === looked();
    return h(
      "li",
      { class: "duplicates-file", dataset: { state: isKept ? "keep" : goes ? "goes" : "", key: file.key }, "aria-current": isLooked ? "true" : null },
      h(
        "button",
        { class: "duplicates-look", onclick: () => look(file), "aria-pressed": String(isLooked), "aria-label": t("duplicates.compare_with", { name: file.name }), disabled: isKept },
        h("img", { src: thumbnail(file.id), alt: "", style: { "--color": file.color } }),
      ),
      h(
        "div",
        { class: "duplicates-facts" },
        h("a", { class: "duplicates-name", href: href({ view: "picture", id: file.id, group: null, other: null }), title: file.uri }, file.name),
        h("span", { class: "hint duplicates-folder", title: file.folder }, h("bdi", {}, file.folder)),
        h("span", { class: "duplicates-figures" }, `${number(file.width)} × ${number(file.height)} · ${bytes(file.bytes)} · ${(file.format || "").toUpperCase()}`),
        h("span", { class: "hint" }, [file.taken_at ? time(file.taken_at) : t("duplicates.no_time"), file.camera, file.gps ? t("duplicates.gps") : ""].filter(Boolean).join(" · ")),
        h(
          "span",
          { class: "duplicates-choices" },
          h("label", {}, h("input", { type: "radio", name: `keep-${group.key}`, checked: isKept, onchange: () => keep(file) }), t("duplicates.keep")),
          h("label", {}, h("input", { type: "checkbox", checked: goes, disabled: isKept, onchange: () => toggle(file) }), t("duplicates.move")),
          linked(file),
        ),
      ),
    );
  }

  function draw() {
    const now = decided.of(group);
    const text = JSON.stringify([group.key, group.files.length, now, looked()?.key]);
    if (text !== shown) {
      const focus = focusOf(files);
      fill(files, group.files.map((file) => card(file, now)), group.more > 0 && h("li", { class: "hint" }, t("duplicates.more", { count: group.more })));
      focus(files);
      shown = text;
    }
    why.textContent = now.keeper === group.files[0]?.key ? t(`duplicates.why_${group.why}`) : t("duplicates.why_chosen");
    compare.show(kept(), looked());
  }

  return {
    element,
    /** Show a group, or wait for it. */
    show(next, { index, total }) {
      group = next?.files.length ? next : null;
      where.textContent = total ? t("duplicates.group_of", { index: index + 1, total }) : "";
      element.classList.toggle("is-waiting", !group);
      if (group) draw();
    },
    other(by, event) {
      if (!group || event?.target.closest?.("input, .duplicates-list")) return false;
      const some = rest();
      look(some[(some.indexOf(looked()) + by + some.length) % some.length]);
      return true;
    },
    keep: () => group && keep(),
    toggle: () => group && toggle(),
    all,
    mode: () => compare.next(),
  };
}

/** What had the focus among some files has it again after they are drawn anew. */
function focusOf(files) {
  const active = files.contains(document.activeElement) ? document.activeElement : null;
  const key = active?.closest("[data-key]")?.dataset.key;
  const what = active?.type === "radio" ? "input[type=radio]" : active?.type === "checkbox" ? "input[type=checkbox]" : active?.localName;
  return (now) => { if (key && what) now.querySelector(`[data-key="${key}"] ${what}`)?.focus({ preventScroll: true }); };
}

function linked(file) {
  if (!file.kind) return h("span", { class: "chip" }, t("duplicates.suggested"));
  const values = { distance: file.kind === "hash" ? number(file.distance) : number(file.distance, 3) };
  return h("span", { class: "chip", dataset: { kind: file.kind } }, t(`duplicates.by_${file.kind}`, values));
}
