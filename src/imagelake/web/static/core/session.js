// Logging in with an API key, where the server asks for one: a cookie that no script reads stands for it afterwards.

import { h } from "./dom.js";
import { post } from "./server.js";
import { t } from "./texts.js";

let open = null; // the dialog, as a promise that is kept once somebody is in

/** Ask for a key, once for all who wait for it; resolves when it was right. */
export function logIn() {
  open ||= new Promise((resolve) => show(resolve)).finally(() => (open = null));
  return open;
}

/** End the session. */
export async function logOut() {
  await post("logout", {});
  location.reload();
}

function show(resolve) {
  const field = h("input", { type: "password", id: "login-key", name: "key", autocomplete: "current-password", required: true, autofocus: true });
  const wrong = h("p", { class: "bad-text", role: "alert" });
  const send = h("button", { class: "primary" }, t("core.log_in"));
  const form = h(
    "form",
    { class: "stack", onsubmit: (event) => submit(event) },
    h("h2", {}, t("core.key_title")),
    h("p", { class: "hint" }, t("core.key_hint")),
    // A name for the key, so that password managers keep it.
    h("input", { class: "visually-hidden", type: "text", name: "username", autocomplete: "username", value: location.host, tabindex: "-1", "aria-hidden": "true", readonly: true }),
    h("label", { for: "login-key" }, t("core.key")),
    field,
    wrong,
    h("div", { class: "row end" }, send),
  );
  const dialog = h("dialog", { class: "sheet login", "aria-label": t("core.key_title"), oncancel: (event) => event.preventDefault() }, form);
  async function submit(event) {
    event.preventDefault();
    send.disabled = true;
    try {
      await post("login", { key: field.value });
      dialog.close();
      dialog.remove();
      resolve();
    } catch (error) {
      wrong.textContent = error.status === 401 ? t("core.key_wrong") : error.message;
      field.select();
    }
    send.disabled = false;
  }
  document.body.append(dialog);
  dialog.showModal();
}
