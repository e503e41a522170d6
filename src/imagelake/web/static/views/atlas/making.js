// The method of the map, and its making in the background: a bar that says how far it is.

import { fill, h } from "../../core/dom.js";
import { notice } from "../../core/notice.js";
import { get, post } from "../../core/server.js";
import { number, t } from "../../core/texts.js";

const ASK_MS = 800;

/** Buttons of the methods; what is missing can be made, or says how to install it. */
export function showMethods(element, state, choose, made) {
  const total = state.about.sets.find(({ name }) => name === state.set)?.images || 0;
  fill(element, state.about.methods.map((method) =>
    h(
      "button",
      {
        type: "button", dataset: { method: method.name }, "aria-pressed": String(method.name === state.asked),
        title: method.install || null, onclick: () => choose(method.name),
      },
      method.name.toUpperCase(),
    ),
  ));
  const asked = state.about.methods.find(({ name }) => name === state.asked);
  fill(state.offer);
  if (!asked || asked.made || state.job || asked.name === "pca") return; // that one is made when it is asked for
  if (!asked.available) return fill(state.offer, h("span", { class: "hint" }, t("atlas.missing")), h("code", {}, 'pip install "imagelake[umap]"'));
  const about = asked.starts_s + asked.each_s * total;
  fill(state.offer, h("button", { class: "primary atlas-make", onclick: () => make(state, asked.name, made) }, t("atlas.make", { method: asked.name.toUpperCase() })), h("span", { class: "hint" }, duration(about)));
}

/** Ask for a map to be made, and follow it. */
export async function make(state, method, made) {
  try {
    await follow(state, (await post("atlas/make", { set: state.set, method })).job, made);
  } catch (error) {
    state.job = null;
    notice(error.message);
  }
}

/** Show how far the making is until it ends. */
export async function follow(state, job, made) {
  while (job?.state === "running") {
    state.job = job;
    showJob(state.offer, job);
    await new Promise((done) => setTimeout(done, ASK_MS));
    job = (await get("atlas/job")).job;
  }
  state.job = null;
  fill(state.offer);
  if (job?.state === "failed") notice(job.error);
  await made(job);
}

function showJob(element, job) {
  const text = `${t(`atlas.task_${job.task}`)} ${number(100 * job.share)} %`;
  if (!element.querySelector("progress")) fill(element, h("progress", { max: 1, "aria-label": t("atlas.making") }), h("span", { class: "hint" }));
  element.querySelector("progress").value = job.share;
  element.querySelector(".hint").textContent = text;
}

function duration(seconds) {
  return seconds < 90 ? t("atlas.seconds", { count: Math.ceil(seconds / 10) * 10 }) : t("atlas.minutes", { count: Math.ceil(seconds / 60) });
}
