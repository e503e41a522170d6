// A picture that is dropped on the page or pasted, in whichever view: it is searched with.

import { get, go } from "./address.js";

let take = null; // what the search view does with it
let waiting = null; // what came before that view was there
let depth = 0;

/** Be given each picture: {file}, {id} of an image of the lake, or {url}. One that came before is given at once. */
export function onPicture(work) {
  take = work;
  if (waiting) work(waiting);
  waiting = null;
}

/** Look out for pictures; called once. */
export function watchDrops() {
  addEventListener("dragenter", (event) => carries(event) && mark((depth += 1)));
  addEventListener("dragleave", (event) => carries(event) && mark((depth = Math.max(0, depth - 1))));
  addEventListener("dragover", (event) => {
    if (!carries(event) || event.defaultPrevented) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  addEventListener("drop", (event) => {
    mark((depth = 0));
    if (!carries(event) || event.defaultPrevented) return;
    event.preventDefault();
    hand(pictureOf(event.dataTransfer));
  });
  addEventListener("paste", (event) => {
    if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
    const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
    if (!file) return; // words go where they are pasted
    event.preventDefault();
    hand({ file });
  });
}

function hand(picture) {
  if (!picture) return;
  if (take) take(picture);
  else waiting = picture;
  if (get("view") !== "search") go({ view: "search", id: null });
}

/** Whether pictures may be in what is dragged; a dialog takes its own. */
function carries(event) {
  if (!event.dataTransfer || document.querySelector("dialog[open]")) return false;
  if (event.target instanceof Element && event.target.matches("input, textarea")) return false;
  return event.dataTransfer.types.includes("Files") || event.dataTransfer.types.includes("text/uri-list");
}

function pictureOf(data) {
  const address = data.getData("text/uri-list").split(/\r?\n/).find((line) => line && !line.startsWith("#")) || "";
  const own = /\/page\/api\/(?:thumbnail|picture)\/([0-9a-f]{16,64})/.exec(address) || idOf(address);
  if (own) return { id: own[1] };
  if (data.files.length) return { file: data.files[0] };
  return /^https?:/.test(address) ? { url: address } : null;
}

/** The image that a link of this page leads to. */
function idOf(address) {
  if (!address.startsWith(location.origin)) return null;
  return /[?&]id=([0-9a-f]{16,64})/.exec(address);
}

function mark(on) {
  document.documentElement.classList.toggle("dropping", Boolean(on));
}
