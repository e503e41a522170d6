// What the page asks the server; every address is relative, so that it works behind a proxy's folder.

import { t } from "./texts.js";

/** What went wrong, in words for people. */
export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** The address of an image's thumbnail. */
export const thumbnail = (id) => `page/api/thumbnail/${id}`;

/** A JSON answer: get("browse", params, signal). */
export async function get(path, params, signal) {
  return (await ask(path, params, { signal })).json();
}

/** A binary answer, as an ArrayBuffer, with its headers. */
export async function getBytes(path, params, signal) {
  const answer = await ask(path, params, { signal });
  return { bytes: await answer.arrayBuffer(), headers: answer.headers };
}

/** Send JSON, or a Blob as it is, and get JSON. */
export async function post(path, body, params, signal) {
  const raw = body instanceof Blob || body instanceof ArrayBuffer;
  const headers = { "Content-Type": raw ? body.type || "application/octet-stream" : "application/json" };
  const sent = { method: "POST", body: raw ? body : JSON.stringify(body), headers, signal };
  return (await ask(path, params, sent)).json();
}

async function ask(path, params, options) {
  const query = params ? `?${params instanceof URLSearchParams ? params : new URLSearchParams(params)}` : "";
  let answer;
  try {
    const early = globalThis.imagelakeEarly?.get(`${path}${query}`); // under way since before this script was there
    globalThis.imagelakeEarly?.delete(`${path}${query}`);
    answer = await (early && !options.method ? early.catch(() => null) : null);
    if (!answer?.ok) answer = await fetch(`page/api/${path}${query}`, {
      ...options,
      headers: { "X-Imagelake-Page": "1", ...options.headers },
      credentials: "same-origin",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    dispatchEvent(new Event("imagelake:gone"));
    throw new ServerError(t("core.unreachable"), 0);
  }
  if (answer.ok) return answer;
  if (answer.status === 401 && path !== "login") dispatchEvent(new Event("imagelake:key"));
  let message = `${answer.status} ${answer.statusText}`;
  try {
    message = (await answer.json()).error || message;
  } catch {
    // no JSON: the status says what there is to say
  }
  throw new ServerError(message, answer.status);
}
