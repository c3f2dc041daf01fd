// Loads the pictures of cards a few at a time, those on the screen first. A browser has six connections to a server:
// what a person asks for must not wait behind pictures.

import { h } from "./dom.js";

const AT_ONCE = 3;
let waiting = []; // [image, source]
const loading = new Set();
const MOST_LOADED = 2000;
const loadedImages = new Map(); // by source, as long as the browser has them
let frame = 0;

// An image that gets its source when its turn comes; without a picture it stays invisible.
// A card that is drawn again has the picture that it had, so that it does not blink.
export function picture(source) {
  const before = loadedImages.get(source)?.deref();
  if (before && !before.isConnected) return before;
  const image = h("img", { alt: "", decoding: "async" });
  for (const type of ["load", "error"]) {
    image.addEventListener(type, () => {
      image.classList.toggle("is-missing", type === "error");
      if (type === "load") remember(image, source);
      loading.delete(image);
      loadPictures();
    });
  }
  waiting.push([image, source]);
  loadPictures();
  return image;
}

function remember(image, source) {
  loadedImages.set(source, new WeakRef(image));
  if (loadedImages.size > MOST_LOADED) loadedImages.delete(loadedImages.keys().next().value);
}

// Go on loading: called when cards were drawn, and when a view is shown again.
export function loadPictures() {
  frame ||= requestAnimationFrame(() => { frame = 0; load(); });
}

function load() {
  for (const image of loading) if (!image.isConnected) stop(image);
  waiting = waiting.filter(([image]) => image.isConnected);
  const shown = waiting.filter(([image]) => image.offsetParent);
  const onScreen = ([image]) => {
    const box = image.getBoundingClientRect();
    return box.bottom > 0 && box.top < window.innerHeight;
  };
  const next = [...shown.filter(onScreen), ...shown].slice(0, AT_ONCE - loading.size);
  for (const [image, source] of new Set(next)) {
    loading.add(image);
    image.src = source;
  }
  waiting = waiting.filter(([image]) => !loading.has(image));
}

// Chromium keeps an image, with all around it, whose source goes while it is outside of the page.
function stop(image) {
  loading.delete(image);
  document.body.append(image);
  image.removeAttribute("src");
  image.remove();
}
