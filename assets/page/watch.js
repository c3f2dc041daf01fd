// The player and its timeline: begins at the moment, seeks where a bar is pressed, obeys the keyboard.
const video = () => element.querySelector("video");
const seconds = (bar) => bar.dataset.seek / 1000 - Number(video().dataset.offset);

function begin() {
  const player = video();
  if (!player) return;
  const start = () => {
    player.currentTime = Number(player.dataset.start);
    player.play().catch(() => {}); // a browser that wants a press first shows its own button
  };
  if (player.readyState >= 1) start();
  else player.addEventListener("loadedmetadata", start, { once: true });
  element.scrollIntoView({ block: "start" });
}

function seek(bar) {
  const player = video();
  if (!player) return;
  const made = player.getAttribute("src").startsWith("/moment/"); // holds this moment and no more
  if (made && (seconds(bar) < 0 || seconds(bar) > player.duration)) trigger("select", { moment: Number(bar.dataset.id) });
  else {
    player.currentTime = Math.max(0, seconds(bar));
    player.play().catch(() => {});
    element.querySelector(".vtag-chosen")?.classList.remove("vtag-chosen");
    bar.classList.add("vtag-chosen");
  }
}

function step(direction) {
  const bars = [...element.querySelectorAll(".vtag-bar")].sort((a, b) => a.dataset.seek - b.dataset.seek);
  const at = bars.findIndex((bar) => bar.classList.contains("vtag-chosen"));
  const next = bars[Math.min(bars.length - 1, Math.max(0, at + direction))];
  if (next) { seek(next); next.focus(); }
}

const KEYS = {
  " ": ["Space", "play or pause", () => (video().paused ? video().play() : video().pause())],
  j: ["j", "five seconds back", () => (video().currentTime -= 5)],
  l: ["l", "five seconds on", () => (video().currentTime += 5)],
  ",": [",", "a frame back", () => { video().pause(); video().currentTime -= 1 / 25; }],
  ".": [".", "a frame on", () => { video().pause(); video().currentTime += 1 / 25; }],
  n: ["n", "next moment", () => step(1)],
  p: ["p", "previous moment", () => step(-1)],
  "?": ["?", "these keys", () => help()],
};

function help() {
  let dialog = document.querySelector(".vtag-keys");
  if (!dialog) {
    dialog = document.createElement("dialog");
    dialog.className = "vtag-keys";
    const rows = Object.values(KEYS).map(([key, what]) => `<dt>${key}</dt><dd>${what}</dd>`).join("");
    dialog.innerHTML = `<h2>Keys</h2><dl>${rows}</dl><form method="dialog"><button autofocus>Close</button></form>`;
    document.body.append(dialog);
  }
  dialog.showModal();
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable], dialog");
  const known = KEYS[event.key];
  if (typing || !known || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key !== "?" && !video()) return;
  if (event.key === " " && event.target.closest("button, a, video")) return; // it presses those
  event.preventDefault();
  known[2]();
});
element.addEventListener("click", (event) => {
  const bar = event.target.closest(".vtag-bar");
  if (bar) seek(bar);
});
watch("value", begin);
