// Dark or light: as the system has it, until somebody chooses.

import { h } from "./dom.js";
import { t } from "./texts.js";

const NAME = "imagelake.theme";

export function keepTheme() {
  const chosen = localStorage.getItem(NAME);
  if (chosen) document.documentElement.dataset.theme = chosen;
}

export const isDark = () =>
  (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

export function themeButton() {
  const change = () => {
    const next = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    localStorage.setItem(NAME, next);
    dispatchEvent(new Event("imagelake:theme")); // what is drawn on a canvas draws itself again
  };
  return h("button", { class: "quiet", onclick: change, "aria-label": t("core.theme"), title: t("core.theme") }, "◐");
}
