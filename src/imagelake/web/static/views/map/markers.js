// The pictures on the map: small pictures with a count where few places are in view, else circles with a count.

import { language } from "../../core/texts.js";
import { thumbnail } from "../../core/server.js";
import { palette } from "../../core/worldmap.js";
import { clusterer } from "../../core/clusters.js";

const MOST_PICTURES = 60; // markers in view up to which they are pictures
const SIDE = 52; // pixels of a picture
const MARGIN = 40;
const MOST_IMAGES = 600;
const MOST_LOADING = 12;
const DEEPEST = 17;

/** Markers of points {xs, ys, id(index)}: {paint(context, map), hit(pixel) -> cluster | null}. */
export function markers(points) {
  const clusters = clusterer(points.xs, points.ys);
  const images = imageStore();
  const compact = new Intl.NumberFormat(language, { notation: "compact", maximumSignificantDigits: 2 });
  let drawn = [];
  let over = null;
  return {
    paint(context, map) {
      const zoom = Math.max(0, Math.min(DEEPEST, Math.floor(map.zoom + 0.25)));
      drawn = [];
      const all = clusters(zoom, map.window());
      for (let each = 0; each < all.size; each++) {
        for (const [px, py] of map.spots(all.x(each), all.y(each), MARGIN)) drawn.push({ px, py, cluster: told(all, each) });
      }
      drawn.sort((a, b) => b.cluster.count - a.cluster.count || a.cluster.first - b.cluster.first);
      const asPictures = drawn.length <= MOST_PICTURES;
      for (let each = drawn.length - 1; each >= 0; each--) {
        const spot = drawn[each];
        spot.radius = asPictures ? SIDE / 2 : 11 + 5 * Math.log10(spot.cluster.count) ** 1.2;
        const image = asPictures ? images(points.id(spot.cluster.first), map.draw) : null;
        if (asPictures) drawPicture(context, spot, image);
        else drawCircle(context, spot);
        const text = spot.cluster.count > 1 ? compact.format(spot.cluster.count) : "";
        if (asPictures && text) drawBadge(context, spot, text);
        else if (text) drawText(context, text, spot.px, spot.py, spot.cluster.count > 999 ? 13 : 12, palette().onMark);
        if (over && over.first === spot.cluster.first && over.count === spot.cluster.count) drawRing(context, spot, asPictures);
      }
    },
    hit([px, py]) {
      return drawn.find((spot) => Math.hypot(spot.px - px, spot.py - py) <= Math.max(spot.radius, 16))?.cluster || null;
    },
    /** Mark the one below the pointer; whether that changed. */
    hover(cluster) {
      const changed = cluster?.first !== over?.first || cluster?.count !== over?.count;
      over = cluster;
      return changed;
    },
    counts: () => drawn.map((spot) => spot.cluster.count),
  };
}

const told = (all, each) => ({ x: all.x(each), y: all.y(each), count: all.count(each), first: all.first(each), members: () => all.members(each) });

function drawCircle(context, { px, py, radius }) {
  const { mark } = palette();
  context.beginPath();
  context.arc(px, py, radius + 3, 0, 2 * Math.PI);
  context.fillStyle = `${mark}40`;
  context.fill();
  context.beginPath();
  context.arc(px, py, radius, 0, 2 * Math.PI);
  context.fillStyle = mark;
  context.fill();
}

function drawPicture(context, { px, py }, image) {
  const { paper, mark } = palette();
  const [left, top] = [px - SIDE / 2, py - SIDE / 2];
  context.save();
  context.shadowColor = "rgb(0 0 0 / 35%)";
  context.shadowBlur = 5;
  context.shadowOffsetY = 1;
  context.fillStyle = paper;
  context.beginPath();
  context.roundRect(left, top, SIDE, SIDE, 8);
  context.fill();
  context.restore();
  context.save();
  context.beginPath();
  context.roundRect(left + 2, top + 2, SIDE - 4, SIDE - 4, 6);
  context.clip();
  context.fillStyle = mark;
  context.fillRect(left, top, SIDE, SIDE);
  if (image) {
    const side = Math.min(image.naturalWidth, image.naturalHeight);
    const [x, y] = [(image.naturalWidth - side) / 2, (image.naturalHeight - side) / 2];
    context.drawImage(image, x, y, side, side, left + 2, top + 2, SIDE - 4, SIDE - 4);
  }
  context.restore();
}

function drawBadge(context, { px, py }, text) {
  const { mark, onMark, paper } = palette();
  context.font = "600 12px system-ui, sans-serif";
  const width = Math.max(20, context.measureText(text).width + 12);
  const [x, y] = [px + SIDE / 2 - 4, py - SIDE / 2 + 2];
  context.beginPath();
  context.roundRect(x - width / 2, y - 10, width, 20, 10);
  context.fillStyle = mark;
  context.fill();
  context.lineWidth = 2;
  context.strokeStyle = paper;
  context.stroke();
  drawText(context, text, x, y, 12, onMark);
}

function drawText(context, text, x, y, size, color) {
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillStyle = color;
  context.fillText(text, x, y + 0.5);
}

function drawRing(context, { px, py, radius }, square) {
  context.beginPath();
  if (square) context.roundRect(px - SIDE / 2 - 2, py - SIDE / 2 - 2, SIDE + 4, SIDE + 4, 10);
  else context.arc(px, py, radius + 3, 0, 2 * Math.PI);
  context.lineWidth = 3;
  context.strokeStyle = palette().mark;
  context.stroke();
}

/** images(id, whenLoaded) -> an image once it is there, else null; a few are loaded at a time, the newest wishes kept. */
function imageStore() {
  const known = new Map();
  let loading = 0;
  return (id, whenLoaded) => {
    const found = known.get(id);
    if (found) return found.naturalWidth && found.complete ? found : null;
    if (loading >= MOST_LOADING) return null;
    const image = new Image();
    loading++;
    image.onload = image.onerror = () => {
      loading--;
      whenLoaded();
    };
    image.src = thumbnail(id);
    known.set(id, image);
    if (known.size > MOST_IMAGES) known.delete(known.keys().next().value);
    return null;
  };
}
