// What is chosen in all groups together, and what comes of it: a script that moves the files, or a list.

import { choose } from "../../core/chosen.js";
import { announce, h, later } from "../../core/dom.js";
import { saveBlob } from "../../core/listing.js";
import { notice } from "../../core/notice.js";
import { post } from "../../core/server.js";
import { bytes, t, tn } from "../../core/texts.js";

const FORMATS = { sh: "move-duplicates.sh", ps1: "move-duplicates.ps1", csv: "duplicates.csv", json: "duplicates.json" };

/** `query()` is what the server is asked with; `count()` how many groups were decided by hand. */
export function makeOutcome({ query, decided, count }) {
  let sums = null; // of the rule alone
  let turn = 0;
  const word = h("strong", { class: "duplicates-sum", role: "status" });
  const byHand = h("span", { class: "hint" });
  const forget = h("button", { class: "quiet", hidden: true, onclick: decided.forget }, t("duplicates.forget"));
  const buttons = [
    h("button", { class: "primary", onclick: () => save("sh"), title: t("duplicates.sh_hint") }, t("duplicates.sh")),
    h("button", { onclick: () => save("ps1") }, t("duplicates.ps1")),
    h("button", { onclick: () => save("csv") }, t("duplicates.csv")),
    h("button", { onclick: () => save("json") }, t("duplicates.json")),
    h("button", { onclick: chooseAll, title: t("duplicates.choose_hint") }, t("duplicates.choose")),
  ];
  const element = h("div", { class: "duplicates-outcome", role: "region", "aria-label": t("duplicates.outcome") }, word, byHand, forget, h("span", { class: "spring" }), buttons);

  function tell(now) {
    word.textContent = now.files ? t("duplicates.sum", { files: tn("duplicates.files", now.files), size: bytes(now.bytes) }) : t("duplicates.sum_none");
    for (const each of buttons) each.disabled = !now.files;
    element.classList.toggle("none", !now.files); // nothing to scroll to: none of it can be pressed
    byHand.textContent = count() ? tn("duplicates.by_hand", count()) : "";
    forget.hidden = !count();
  }

  const ask = (format) => ({ query: query().toString(), format, decisions: decided.byHand() });

  const count_soon = later(150, async () => {
    const mine = ++turn;
    try {
      const now = await post("duplicates/export", ask("totals"));
      if (mine === turn) tell(now);
    } catch (error) {
      notice(error.message);
    }
  });

  async function save(format) {
    try {
      const answer = await fetchFile(ask(format));
      saveBlob(FORMATS[format], answer);
      const said = t(format === "sh" || format === "ps1" ? "duplicates.saved_script" : "duplicates.saved_list");
      notice(said, { error: false });
      announce(said);
    } catch (error) {
      notice(error.message);
    }
  }

  async function chooseAll() {
    try {
      const { ids } = await post("duplicates/export", ask("ids"));
      choose(ids);
    } catch (error) {
      notice(error.message);
    }
  }

  return {
    element,
    /** The server's answer for the rule alone. */
    told(answer) {
      sums = answer.chosen;
      if (count()) count_soon();
      else tell(sums);
    },
    /** A decision by hand changed. */
    changed() {
      if (!count() && sums) tell(sums);
      else count_soon();
    },
  };
}

async function fetchFile(body) {
  const answer = await fetch("page/api/duplicates/export", {
    method: "POST",
    body: JSON.stringify(body),
    headers: { "Content-Type": "application/json", "X-Imagelake-Page": "1" },
    credentials: "same-origin",
  });
  if (answer.ok) return answer.blob();
  throw new Error((await answer.json().catch(() => ({}))).error || `${answer.status} ${answer.statusText}`);
}
