// Selects several cards: a press on their boxes, Shift for all between, Ctrl+A for all; and the bar of what to do.

import { latestOnly } from "./api.js";
import { button, h, replace, toast } from "./dom.js";
import { plural } from "./format.js";
import { icon } from "./icons.js";

const FEW_BOXES = 300; // more than a screen shows

export class Selection {
  // `idAt(index)` is the id of the item at an index, if it is loaded; `identify(item)` is the same of an item that got
  // another id; `selectAll()` resolves to the ids of everything found; `actions` are [caption, icon, run(ids)]. While
  // one runs, none can be pressed. `returnFocus()` takes the keyboard's focus from the bar when it goes.
  constructor({ noun, idAt, identify = ({ id }) => id, selectAll, actions, returnFocus, onChange = () => {} }) {
    Object.assign(this, { noun, idAt, identify, selectAll, actions, returnFocus, onChange });
    this.ids = new Set();
    this.askAll = latestOnly();
    this.isActing = false;
    this.lastIndex = null;
    this.boxes = new Map(); // of the cards that exist, by id
    this.mostBoxes = FEW_BOXES;
    this.bar = h("div", { class: "selection-bar", role: "region", "aria-label": "Selection", hidden: true });
  }

  // Give a card its box.
  addTo(card, id, index, name) {
    const box = h("input", { type: "checkbox", class: "card-box", "aria-label": `Select ${name}`, tabindex: "-1" });
    box.checked = this.ids.has(id);
    box.addEventListener("click", (event) => this.press(id, index, event.shiftKey, box.checked));
    card.addEventListener("click", (event) => {
      if (!event.shiftKey && !event.ctrlKey && !event.metaKey) return;
      if (!event.target.closest("a") || (event.ctrlKey || event.metaKey) && !this.ids.size) return; // Ctrl opens a tab
      event.preventDefault();
      this.press(id, index, event.shiftKey, !this.ids.has(id));
    }, true);
    card.addEventListener("keydown", (event) => {
      if (event.key !== " " || !event.target.closest("a")) return;
      event.preventDefault();
      this.press(id, index, event.shiftKey, !this.ids.has(id));
    });
    card.classList.toggle("is-selected", box.checked);
    if (this.boxes.size > this.mostBoxes) this.forgetBoxes();
    this.boxes.set(id, box);
    card.append(box);
  }

  press(id, index, isRange, isSelected) {
    const [first, last] = isRange && this.lastIndex !== null ? [Math.min(index, this.lastIndex), Math.max(index, this.lastIndex)] : [index, index];
    for (let i = first; i <= last; i += 1) {
      const each = i === index ? id : this.idAt(i);
      if (each === undefined) continue;
      if (isSelected) this.ids.add(each);
      else this.ids.delete(each);
    }
    this.lastIndex = index;
    this.update();
  }

  // After the list was read again: a verdict may have given a moment another id.
  follow(before, after) {
    const ids = new Set(after.map(({ id }) => id));
    const sameAs = new Map(after.map((item) => [this.identify(item), item.id]));
    for (const item of before) {
      const same = sameAs.get(this.identify(item));
      if (ids.has(item.id) || same === undefined || !this.ids.delete(item.id)) continue;
      this.ids.add(same);
    }
    this.update();
  }

  async all() {
    const isLatest = this.askAll();
    let answer;
    try {
      answer = await this.selectAll();
    } catch (error) {
      if (isLatest()) toast(error.message, { isError: true });
      return;
    }
    if (!isLatest()) return; // another list is shown, or the selection was cleared
    const { ids, is_complete: isComplete } = answer;
    for (const id of ids) this.ids.add(id);
    this.update(isComplete ? "" : "the first of those found");
  }

  // Take out what is done; what was selected meanwhile stays.
  remove(ids) {
    for (const id of ids) this.ids.delete(id);
    this.update();
  }

  async act(run) {
    if (this.isActing) return;
    this.isActing = true;
    this.update();
    try {
      await run([...this.ids]);
    } finally {
      this.isActing = false;
      this.update();
    }
  }

  clear() {
    this.askAll();
    this.ids.clear();
    this.lastIndex = null;
    this.update();
  }

  // Scrolling makes and removes cards: those that are gone are not kept.
  forgetBoxes() {
    for (const [id, box] of this.boxes) if (!box.isConnected) this.boxes.delete(id);
    this.mostBoxes = Math.max(FEW_BOXES, 2 * this.boxes.size);
  }

  update(note = "") {
    this.forgetBoxes();
    for (const [id, box] of this.boxes) {
      box.checked = this.ids.has(id);
      box.closest(".card").classList.toggle("is-selected", box.checked);
    }
    const wasHidden = this.bar.hidden;
    const hadFocus = Boolean(this.bar.querySelector(":focus-visible"));
    this.bar.hidden = !this.ids.size;
    document.body.classList.toggle("is-selecting", this.ids.size > 0);
    if (this.ids.size) {
      const focused = this.bar.contains(document.activeElement) ? document.activeElement.dataset.name : null;
      replace(this.bar,
        h("strong", { role: "status" }, `${plural(this.ids.size, this.noun)} selected${note ? `, ${note}` : ""}`),
        button("Select all found", () => this.all(), { class: "button is-quiet", data: { name: "all" } }),
        h("span", { class: "selection-actions" }, this.actions.map(([caption, iconName, run]) =>
          h("button", { type: "button", class: "button", data: { name: caption }, "aria-disabled": this.isActing ? "true" : null, onclick: () => this.act(run) }, icon(iconName), caption))),
        button("Clear", () => this.clear(), { class: "button is-quiet", data: { name: "clear" } }));
      if (focused) this.bar.querySelector(`[data-name="${focused}"]`)?.focus();
    } else if (!wasHidden) {
      if (hadFocus) this.returnFocus();
      this.onChange();
    }
  }
}
