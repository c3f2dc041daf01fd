// The tags of a video: the form that adds one, and a list by label in which each has one line.

import { button, field, h, iconButton, replace } from "./dom.js";
import { clockRange, count, hueClass, percent, preciseClock } from "./format.js";
import { icon } from "./icons.js";

export class TagPanel extends EventTarget {
  // Events: "select", "confirm", "reject", "rename", "similar" (detail: the moment), "add" (detail: values), "from", "to".
  constructor() {
    super();
    this.list = h("div", { class: "tag-groups" });
    this.count = h("span", { class: "tag-count" });
    this.label = h("input", { name: "label", list: "all-labels", autocomplete: "off", required: true, maxlength: 200, placeholder: "what happens" });
    this.start = h("input", { name: "start", class: "time-input", inputmode: "decimal", placeholder: "0:00", autocomplete: "off" });
    this.end = h("input", { name: "end", class: "time-input", inputmode: "decimal", placeholder: "the end", autocomplete: "off" });
    this.fields = { label: field("Tag", this.label), start: field("From", this.start), end: field("To", this.end) };
    this.fields.start.append(iconButton(icon("start"), "From here (i)", () => this.dispatchEvent(new Event("from"))));
    this.fields.end.append(iconButton(icon("end"), "To here (o)", () => this.dispatchEvent(new Event("to"))));
    this.form = h("form", { class: "add-tag", "aria-label": "Add a tag" }, this.fields.label, this.fields.start, this.fields.end, h("button", { class: "button is-primary", onclick: (event) => { if (event.detail > 1) event.preventDefault(); } }, "Add tag")); // a double press adds one
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.emit("add", Object.fromEntries(new FormData(this.form)));
    });
    this.start.addEventListener("input", () => this.dispatchEvent(new Event("typed")));
    this.end.addEventListener("input", () => this.dispatchEvent(new Event("typed")));
    this.element = h("section", { class: "tag-panel", "aria-label": "Tags of this video" },
      h("div", { class: "tag-panel-head" }, h("h3", {}, "Tags"), this.count), this.form, this.list);
    this.selected = null;
    this.closed = new Set();
  }

  show(moments, selected) {
    this.selected = selected;
    this.moments = moments;
    this.count.textContent = count(moments.length);
    const focused = this.list.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
    const byLabel = new Map();
    for (const moment of moments) byLabel.set(moment.label, [...(byLabel.get(moment.label) ?? []), moment]);
    replace(this.list, moments.length ? [...byLabel].map(([label, group]) => this.group(label, group)) : h("p", { class: "tags-empty" }, "This video has no tag yet."));
    if (focused) (this.list.querySelector(`[data-focus="${focused}"]`) ?? this.list.querySelector(".tag-line.is-selected .tag-time"))?.focus({ preventScroll: true });
  }

  group(label, moments) {
    const details = h("details", { class: `tag-group ${hueClass(label)}` },
      h("summary", {}, h("span", { class: "dot" }), h("span", { class: "tag-label" }, label), h("span", { class: "tag-count" }, count(moments.length))),
      h("ul", {}, moments.map((moment) => this.line(moment))));
    details.open = !this.closed.has(label);
    details.addEventListener("toggle", () => (details.open ? this.closed.delete(label) : this.closed.add(label)));
    return details;
  }

  line(moment) {
    const times = clockRange(moment.start_ms, moment.end_ms);
    const subject = `${moment.label} ${times}`;
    const isYes = moment.verdict === "confirmed" && !moment.is_own;
    const isNo = moment.verdict === "rejected";
    const isSelected = moment.id === this.selected;
    const action = (name, iconName, caption, isPressed) => iconButton(icon(iconName), `${caption}: ${subject}`, () => this.emit(name, moment),
      { "aria-pressed": isPressed === undefined ? null : String(isPressed), data: { focus: `${name}-${moment.id}` }, class: `icon-button is-small${isPressed ? " is-pressed" : ""}` });
    return h("li", { class: `tag-line${isSelected ? " is-selected" : ""}${isNo ? " is-rejected" : ""}${moment.sure === false ? " is-less-sure" : ""}`, data: { moment: moment.id } },
      h("button", { type: "button", class: "tag-time", "aria-current": isSelected ? "true" : null, "aria-label": `Play ${subject}`, data: { focus: `select-${moment.id}` }, onclick: () => this.emit("select", moment) }, times),
      h("span", { class: "tag-state" }, moment.is_own ? "yours" : isYes ? "✓ yes" : isNo ? "✗ no" : percent(moment.score)),
      h("span", { class: "tag-actions" },
        !moment.is_own && action("confirm", "yes", "Yes", isYes),
        moment.is_own ? action("reject", "trash", "Remove") : action("reject", "no", "No", isNo),
        action("rename", "rename", "Rename"),
        action("similar", "similar", "More like this")));
  }

  // Bring the selected tag into the list's own window, without moving the page.
  reveal() {
    const line = this.list.querySelector(".tag-line.is-selected");
    if (!line) return;
    const box = this.list.getBoundingClientRect();
    const place = line.getBoundingClientRect();
    if (place.top < box.top || place.bottom > box.bottom) this.list.scrollTop += place.top - box.top - box.height / 3;
  }

  showRange(range) {
    this.start.value = range ? preciseClock(range.start_ms) : "";
    this.end.value = range ? preciseClock(range.end_ms) : "";
  }

  showProblem(error) {
    for (const [name, each] of Object.entries(this.fields)) each.showProblem(error && (error.field || "label") === name ? error.message : null);
    if (error) (this.fields[error.field] ?? this.fields.label).querySelector("input").focus();
  }

  fill(values) {
    this.label.value = values.label;
    this.start.value = values.start;
    this.end.value = values.end;
  }

  isBlank() {
    return !this.label.value && !this.start.value && !this.end.value;
  }

  clearForm() {
    this.form.reset();
    this.showProblem(null);
  }

  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
