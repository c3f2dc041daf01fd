// The player: begins at the moment, goes where the timeline or the keys say, and tells the timeline where it is.
const player = () => element.querySelector("video");
const offset = () => Number(player().dataset.offset) * 1000;
let begun = "";

function begin() {
  const shown = element.querySelector(".vtag-watch");
  if (!shown) return;
  const video = player();
  const start = video ? Number(video.dataset.start) * 1000 + offset() : 0;
  const here = new URL(window.location);
  here.searchParams.set("v", shown.dataset.content);
  here.searchParams.set("t", Math.round(start));
  if (here.href !== window.location.href) window.history.pushState({}, "", here);
  if (!video) return;
  const play = () => {
    video.currentTime = Number(video.dataset.start);
    video.play().catch(() => {}); // a browser that wants a press first shows its own button
  };
  if (begun === video.getAttribute("src") && video.readyState >= 1) play();
  else {
    begun = video.getAttribute("src");
    if (video.readyState >= 1) play();
    else video.addEventListener("loadedmetadata", play, { once: true });
  }
  window.scrollTo({ top: 0 });
}

function seek({ ms, moment }) {
  const video = player();
  if (!video) return;
  const at = (ms - offset()) / 1000;
  const made = video.getAttribute("src").startsWith("/moment/"); // holds one moment and no more
  if (made && (at < 0 || at > video.duration)) {
    trigger("jump", { content: element.querySelector(".vtag-watch").dataset.content, at: Math.max(0, Math.round(ms)) });
    return;
  }
  video.currentTime = Math.max(0, at);
  video.play().catch(() => {});
}

document.addEventListener("vtag-seek", (event) => element.isConnected && seek(event.detail));
element.addEventListener("timeupdate", () => {
  const track = document.querySelector(".vtag-track[data-length]");
  const rows = document.querySelector(".vtag-timeline");
  if (track && rows && player()) {
    rows.style.setProperty("--at", (player().currentTime * 1000 + offset()) / track.dataset.length);
  }
}, true);
watch("value", begin);
begin();
