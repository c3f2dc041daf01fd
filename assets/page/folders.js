// Chooses a folder of this machine: places, folders to go into, and one up.

import { get, latestOnly } from "./api.js";
import { button, h, replace } from "./dom.js";
import { icon } from "./icons.js";

export class FolderChooser {
  // `take(path)` is called with the chosen folder; `caption` is the text of its button.
  constructor(take, { caption = "Take this folder" } = {}) {
    Object.assign(this, { take, caption, ask: latestOnly() });
    this.body = h("div", { class: "chooser-body" });
    this.element = h("details", { class: "chooser" }, h("summary", {}, icon("folder"), "Choose a folder on this machine"), this.body);
    this.element.addEventListener("toggle", () => { if (this.element.open && !this.path) this.go(""); });
  }

  open() {
    this.element.open = true; // which reads the first folder
  }

  async go(path) {
    const isLatest = this.ask();
    let folder;
    try {
      folder = await get("folders", { path });
    } catch (error) {
      if (!isLatest()) return;
      this.body.querySelector(".problem")?.remove();
      this.body.prepend(h("p", { class: "problem", role: "alert" }, error.message)); // the folders stay, to try another
      return;
    }
    if (!isLatest()) return;
    const hadFocus = this.body.contains(document.activeElement);
    this.path = folder.path;
    const item = (name, to, title) => h("li", {}, button(name, () => this.go(to), { class: "chip", title, "aria-label": title }));
    replace(this.body,
      h("ul", { class: "chips", "aria-label": "Places" }, folder.places.map((place) => item(place.name, place.path, `Go to ${place.path}`))),
      h("p", { class: "chooser-path" }, h("strong", { tabindex: "-1" }, folder.path), button(this.caption, () => this.take(folder.path), { class: "button is-primary", "aria-label": `${this.caption}: ${folder.path}` })),
      h("ul", { class: "chips chooser-folders", "aria-label": `Folders in ${folder.path}` },
        folder.parent !== null && h("li", {}, button([icon("up"), "up"], () => this.go(folder.parent), { class: "chip", "aria-label": "One folder up" })),
        folder.folders.map(({ name, path: to }) => item(name, to, `Go into ${name}`))),
      !folder.is_complete && h("p", {}, "There are more folders here: type the path instead."));
    if (hadFocus) this.body.querySelector("strong").focus();
  }
}
