// Dark or light: as the system has it, until somebody chooses.

import { h } from "./dom.js";
import { remember, remembered } from "./memory.js";
import { t } from "./texts.js";

const system = matchMedia("(prefers-color-scheme: dark)");

/** Take what was chosen before. */
export function keepTheme() {
  const chosen = remembered("theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
}

export const isDark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";

/** "light", "dark", or "" for what the system has. */
export const chosenTheme = () => document.documentElement.dataset.theme || "";

/** Choose one; what is drawn on a canvas hears "imagelake:theme" and draws itself again. */
export function chooseTheme(name) {
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
  remember("theme", name);
  dispatchEvent(new Event("imagelake:theme"));
}

system.addEventListener("change", () => {
  if (!chosenTheme()) dispatchEvent(new Event("imagelake:theme"));
});

/** A button that changes to the other one. */
export function themeButton() {
  const change = () => chooseTheme(isDark() ? "light" : "dark");
  return h("button", { class: "quiet", onclick: change, "aria-label": t("core.theme"), title: t("core.theme") }, "◐");
}
