// The timeline, the tags, and the form that adds a tag: a press seeks, or triggers one of these events, whose names
// Gradio finds by reading them here:
// "confirm" "reject" "rename" "insert" "undo" "similar" "curve"
const section = () => element.querySelector("section[data-content]");
const curveLabel = () => document.querySelector(".vtag-timeline")?.dataset.curve || "";
const playerTime = () => {
  const video = document.querySelector("#vtag-watch video");
  return video ? video.currentTime + Number(video.dataset.offset) : 0;
};
const formatTime = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;

function send(name, data) {
  trigger(name, { content: section().dataset.content, curve: curveLabel(), ...data });
}

function seek(ms, moment) {
  if (moment) window.vtagSelected = moment;
  highlight();
  document.dispatchEvent(new CustomEvent("vtag-seek", { detail: { ms: Number(ms), moment } }));
}

function highlight() { // marks the selected moment in the timeline and in the list, also after they were replaced
  if (!window.vtagSelected) return;
  for (const item of document.querySelectorAll(".vtag-bar, .vtag-tag")) {
    item.classList.toggle("vtag-selected", item.dataset.moment === window.vtagSelected);
  }
}

function rename(data) {
  const dialog = document.createElement("dialog");
  dialog.className = "vtag-dialog";
  dialog.innerHTML = `<form method="dialog"><label>New name <input name="name" list="vtag-all-labels" required maxlength="200"
    autocomplete="off"></label><div class="vtag-range"><button class="vtag-button vtag-primary" value="save">Rename</button>
    <button class="vtag-button" value="" formnovalidate>Cancel</button></div></form>`;
  element.append(dialog);
  const field = dialog.querySelector("input");
  field.value = data.label;
  dialog.addEventListener("close", () => {
    if (dialog.returnValue === "save" && field.value.trim()) send("rename", { ...data, name: field.value });
    dialog.remove();
  });
  dialog.showModal();
  field.select();
}

const ACTIONS = { // of buttons that the page need not know about
  seek: (data) => seek(data.seek, data.moment),
  from: () => { element.querySelector("[name=start]").value = formatTime(playerTime()); },
  to: () => { element.querySelector("[name=end]").value = formatTime(playerTime()); },
  like: () => send("similar", { at: Math.round(1000 * playerTime()) }),
  help: () => document.dispatchEvent(new CustomEvent("vtag-help")),
  rename,
};

element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-do]");
  if (button) {
    const { do: action, ...data } = button.dataset;
    if (ACTIONS[action]) ACTIONS[action](data);
    else send(action, data);
    return;
  }
  const track = event.target.closest(".vtag-track");
  if (track) {
    const box = track.getBoundingClientRect();
    seek(((event.clientX - box.left) / box.width) * track.dataset.length);
  }
});
element.addEventListener("submit", (event) => {
  if (event.target.closest("dialog")) return;
  event.preventDefault();
  const form = event.target;
  send(form.dataset.do, Object.fromEntries(new FormData(form)));
  if (form.dataset.do === "insert") { form.reset(); form.querySelector("[name=label]").focus(); }
});
watch("value", () => {
  const fresh = element.querySelector(".vtag-selected[data-fresh]");
  if (fresh) { window.vtagSelected = fresh.dataset.moment; fresh.removeAttribute("data-fresh"); }
  highlight();
});
const selected = element.querySelector(".vtag-selected");
if (selected) window.vtagSelected = selected.dataset.moment;
