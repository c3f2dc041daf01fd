// The player: starts at the moment, seeks when the timeline or a key asks for it, and shows its position on the timeline.
const player = () => element.querySelector("video");
const offsetMs = () => Number(player().dataset.offset) * 1000;

function start() {
  const section = element.querySelector(".vtag-watch");
  if (!section) return;
  const video = player();
  const startMs = video ? Number(video.dataset.start) * 1000 + offsetMs() : 0;
  const address = new URL(window.location);
  address.searchParams.set("v", section.dataset.content);
  address.searchParams.set("t", Math.round(startMs));
  if (address.href !== window.location.href) window.history.pushState({}, "", address);
  if (!video) return;
  const play = () => {
    video.currentTime = Number(video.dataset.start);
    video.play().catch(() => {}); // a browser that forbids autoplay shows its own button
  };
  if (video.readyState >= 1) play(); // its metadata is loaded
  else video.addEventListener("loadedmetadata", play, { once: true });
  window.scrollTo({ top: 0 });
}

function seek({ ms }) {
  const video = player();
  if (!video) return;
  const seconds = (ms - offsetMs()) / 1000;
  const isCopy = video.getAttribute("src").startsWith("/moment/"); // a converted file, which holds one moment only
  if (isCopy && (seconds < 0 || seconds > video.duration)) {
    trigger("jump", { content: element.querySelector(".vtag-watch").dataset.content, at: Math.max(0, Math.round(ms)) });
    return;
  }
  video.currentTime = Math.max(0, seconds);
  video.play().catch(() => {});
}

document.addEventListener("vtag-seek", (event) => element.isConnected && seek(event.detail));
element.addEventListener("timeupdate", () => {
  const track = document.querySelector(".vtag-track[data-length]");
  const timeline = document.querySelector(".vtag-timeline");
  if (track && timeline && player()) {
    timeline.style.setProperty("--at", (player().currentTime * 1000 + offsetMs()) / track.dataset.length);
  }
}, true);
watch("value", start);
start();
