// Cards: a moment or a video with its picture. Each is a link, so that it can be opened in another tab and copied.

import { latestOnly } from "./api.js";
import { h, iconButton } from "./dom.js";
import { clock, clockRange, day, hueClass, percent, plural } from "./format.js";
import { icon } from "./icons.js";
import { picture as loadedPicture } from "./pictures.js";
import { link } from "./router.js";

const HOVER_MS = 120; // after this the pictures of a moment begin to change
const TILES = 10; // pictures of a strip, side by side
const TILE_MS = 260;

// A moment of a search. `selection` may be null; `onSimilar(item)` shows what looks like it.
export function momentCard(moment, { selection = null, onSimilar = null, index = 0 } = {}) {
  const confidence = moment.alike !== undefined ? `${percent(moment.alike)} alike`
    : moment.source === "user" ? "yours" : moment.verdict === "confirmed" ? "✓" : percent(moment.score);
  const title = moment.label ?? clockRange(moment.start_ms, moment.end_ms);
  const picture = h("span", { class: "picture" },
    loadedPicture(moment.id !== undefined ? `picture/${moment.id}` : `still/${moment.content}/${Math.floor((moment.start_ms + moment.end_ms) / 2)}`),
    h("span", { class: "card-time" }, clockRange(moment.start_ms, moment.end_ms)),
    h("span", { class: "card-confidence" }, confidence),
    !moment.present && h("span", { class: "card-state" }, "not connected"));
  const card = h("div", { class: `card ${hueClass(title)}${moment.verdict === "rejected" ? " is-rejected" : ""}` },
    h("a", { class: "card-link", href: momentLink(moment), "aria-label": `${title}, ${clockRange(moment.start_ms, moment.end_ms)}, ${moment.name}, ${confidence}` },
      picture,
      h("span", { class: "card-title" }, h("span", { class: "dot" }), h("span", { class: "card-label" }, title)),
      h("span", { class: "card-name", title: moment.path }, moment.name)),
    onSimilar && iconButton(icon("similar"), `More like this: ${title}, ${moment.name}`, () => onSimilar(moment), { class: "icon-button card-similar", tabindex: "-1" }));
  if (moment.sure === false) card.classList.add("is-less-sure");
  if (selection && moment.id !== undefined) selection.addTo(card, moment.id, index, `${title}, ${moment.name}`);
  if (moment.id !== undefined) playOnHover(picture, `strip/moment/${moment.id}`);
  return card;
}

// A whole video of the library.
export function videoCard(video, { selection = null, index = 0 } = {}) {
  const facts = video.error ? [video.error] : [video.recorded_at && day(video.recorded_at), plural(video.moments, "tag")].filter(Boolean);
  const picture = h("span", { class: "picture" },
    video.error ? null : loadedPicture(`poster/${video.id}`),
    video.duration_ms ? h("span", { class: "card-time" }, clock(video.duration_ms)) : null,
    (video.error || !video.present) && h("span", { class: "card-state" }, video.error ? "cannot be read" : "not connected"));
  const card = h("div", { class: "card" },
    h("a", { class: "card-link", href: link({ view: "watch", v: video.id }), "aria-label": `${video.name}, ${facts.join(", ")}` },
      picture,
      h("span", { class: "card-title" }, h("span", { class: "card-label", title: video.path }, video.name)),
      h("span", { class: "card-name", title: video.error }, facts.join(" · "))));
  if (selection) selection.addTo(card, video.id, index, video.name);
  if (!video.error) playOnHover(picture, `strip/video/${video.id}/0/0`);
  return card;
}

export function momentLink(moment) {
  return link({ view: "watch", v: moment.content, t: moment.start_ms, end: moment.end_ms, m: moment.id });
}

// While the pointer rests on a card, its picture goes through the moment: a strip of small pictures, made once.
function playOnHover(picture, strip) {
  let timer = 0;
  let layer = null;
  const ask = latestOnly(); // the pointer may leave and come back before the strip is loaded
  picture.addEventListener("pointerenter", (event) => {
    if (event.pointerType !== "mouse") return;
    const isLatest = ask();
    let tile = 0;
    timer = window.setTimeout(() => {
      const image = new Image();
      image.addEventListener("load", () => {
        if (!isLatest()) return;
        layer = h("span", { class: "strip", "aria-hidden": "true" });
        layer.style.backgroundImage = `url("${image.src}")`;
        layer.style.aspectRatio = `${image.naturalWidth / TILES} / ${image.naturalHeight}`;
        picture.append(layer);
        const step = () => {
          if (!picture.isConnected) return; // a card that is replaced under the pointer is not told that it left
          layer.style.backgroundPosition = `${(100 * tile) / (TILES - 1)}% 0`;
          tile = (tile + 1) % TILES;
          timer = window.setTimeout(step, TILE_MS);
        };
        step();
      });
      image.src = strip;
    }, HOVER_MS);
  });
  picture.addEventListener("pointerleave", () => {
    ask();
    window.clearTimeout(timer);
    layer?.remove();
    layer = null;
  });
}
