// The two sheets that the head opens: keys and help, and the settings of this browser.

import { h } from "./dom.js";
import { keys } from "./keys.js";
import { remember } from "./memory.js";
import { logOut } from "./session.js";
import { LANGUAGES, language, number, t } from "./texts.js";
import { chosenTheme, chooseTheme } from "./theme.js";
import { go } from "./address.js";

/** The keys of the keyboard, as far as the views that were opened have them. */
export function helpSheet() {
  const rows = keys().map(([key, text]) => [h("dt", {}, key.split(" ").map((each) => [h("kbd", {}, each), " "])), h("dd", {}, text)]);
  sheet(t("core.help"), h("p", { class: "hint" }, t("core.help_hint")), h("dl", { class: "keys" }, rows));
}

/** Language, theme, what lake this is, and the way out; `known` is what the server told of itself. */
export function settingsSheet(known) {
  const choice = (label, options, chosen, change) =>
    h("label", { class: "setting" }, h("span", {}, label), select(options, chosen, change));
  sheet(
    t("core.settings"),
    choice(t("core.language"), Object.entries(LANGUAGES), language, changeLanguage),
    choice(t("core.theme"), ["", "light", "dark"].map((each) => [each, t(`core.theme_${each || "system"}`)]), chosenTheme(), chooseTheme),
    h(
      "dl",
      { class: "facts" },
      [
        [t("core.lake"), known.name],
        [t("core.images"), number(known.images || 0)],
        [t("core.access"), known.write ? t("core.access_write") : t("core.access_read")],
        [t("core.version"), known.version],
      ].map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
    ),
    known.key && h("button", { onclick: logOut }, t("core.log_out", { key: known.key })),
  );
}

function select(options, chosen, change) {
  const element = h("select", { onchange: () => change(element.value) }, options.map(([value, text]) => h("option", { value }, text)));
  element.value = chosen;
  return element;
}

function changeLanguage(value) {
  remember("language", value);
  go({ lang: null }, { replace: true });
  location.reload();
}

function sheet(title, ...children) {
  const dialog = h(
    "dialog",
    { class: "sheet", "aria-labelledby": "sheet-title", onclose: () => dialog.remove() },
    h("h2", { id: "sheet-title" }, title),
    children,
    h("form", { method: "dialog", class: "row end" }, h("button", {}, t("core.close"))),
  );
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside it
  document.body.append(dialog);
  dialog.showModal();
}
