// The timeline, and the tags with the form that adds one: presses seek, or tell the page what a person says.
// "confirm" "reject" "rename" "insert" "undo" "similar" "curve"
const root = () => element.querySelector("section[data-content]");
const curve = () => document.querySelector(".vtag-timeline")?.dataset.curve || "";
const now = () => {
  const video = document.querySelector("#vtag-watch video");
  return video ? video.currentTime + Number(video.dataset.offset) : 0;
};
const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;

function tell(name, more) {
  trigger(name, { content: root().dataset.content, curve: curve(), ...more });
}

function seek(ms, moment) {
  if (moment) window.vtagChosen = moment;
  choose();
  document.dispatchEvent(new CustomEvent("vtag-seek", { detail: { ms: Number(ms), moment } }));
}

function choose() { // the same moment stands out in the timeline and in the list, also after they were drawn anew
  if (!window.vtagChosen) return;
  for (const each of document.querySelectorAll(".vtag-bar, .vtag-tag")) {
    each.classList.toggle("vtag-chosen", each.dataset.moment === window.vtagChosen);
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
    if (dialog.returnValue === "save" && field.value.trim()) tell("rename", { ...data, name: field.value });
    dialog.remove();
  });
  dialog.showModal();
  field.select();
}

const DO = {
  seek: (data) => seek(data.seek, data.moment),
  from: () => { element.querySelector("[name=start]").value = clock(now()); },
  to: () => { element.querySelector("[name=end]").value = clock(now()); },
  like: () => tell("similar", { at: Math.round(1000 * now()) }),
  help: () => document.dispatchEvent(new CustomEvent("vtag-help")),
  rename,
};

element.addEventListener("click", (event) => {
  const pressed = event.target.closest("button[data-do]");
  if (pressed) {
    const { do: what, ...data } = pressed.dataset;
    if (DO[what]) DO[what](data);
    else tell(what, data);
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
  tell(form.dataset.do, Object.fromEntries(new FormData(form)));
  if (form.dataset.do === "insert") { form.reset(); form.querySelector("[name=label]").focus(); }
});
watch("value", () => {
  const fresh = element.querySelector(".vtag-chosen[data-fresh]");
  if (fresh) { window.vtagChosen = fresh.dataset.moment; fresh.removeAttribute("data-fresh"); }
  choose();
});
const first = element.querySelector(".vtag-chosen");
if (first) window.vtagChosen = first.dataset.moment;
