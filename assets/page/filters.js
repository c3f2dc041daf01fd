// The filters of a search: chips that can be removed, and a panel with the values that the results have.

import { button, field, h, iconButton, replace, select } from "./dom.js";
import { count } from "./format.js";
import { icon } from "./icons.js";
import { link } from "./router.js";

// The parameters of the address that filter, and what their chips say.
export const FILTERS = {
  label: (value) => value,
  folder: (value) => `in ${value.split("/").filter(Boolean).pop() ?? value}`,
  name: (value) => `file name has “${value}”`,
  year: (value) => `recorded ${value}`,
  after: (value) => `recorded from ${value}`,
  before: (value) => `recorded before ${value}`,
  model: (value) => `by the model ${value}`,
  source: (value) => (value === "user" ? "added by you" : "found by a model"),
  verdict: (value) => (value === "rejected" ? "you said No" : "you said Yes"),
  score: (value) => `confidence from ${Math.round(100 * value)} %`,
};
const FACETS = [["labels", "label", "Label"], ["folders", "folder", "Folder"], ["years", "year", "Year"], ["models", "model", "Model"], ["sources", "source", "Added by"]];
const SOURCES = { user: "you", model: "a model" };
const SHORT = 6; // values of a facet before "Show all"

// The chips of the filters that apply; a press removes one.
export function filterChips(parameters) {
  const chips = Object.entries(FILTERS).filter(([name]) => parameters[name]).map(([name, say]) =>
    h("li", {}, h("a", { class: "chip is-on", href: link({ ...parameters, [name]: "" }), "aria-label": `Remove the filter: ${say(parameters[name])}` },
      say(parameters[name]), icon("close"))));
  return chips.length ? h("ul", { class: "chips", "aria-label": "Filters" }, chips) : null;
}

export function activeFilters(parameters) {
  return Object.fromEntries(Object.keys(FILTERS).filter((name) => parameters[name]).map((name) => [name, parameters[name]]));
}

// The panel beside the results. `change(changes)` sets parameters of the address.
export class FilterPanel {
  constructor(change) {
    this.change = change;
    this.facets = h("div", { class: "facets" });
    this.score = h("input", { type: "range", min: 0, max: 100, step: 5, value: 0 });
    this.output = h("output", {}, "any");
    this.score.addEventListener("input", () => this.sayScore());
    this.score.addEventListener("change", () => this.change({ score: this.score.value === "0" ? "" : Number(this.score.value) / 100 }));
    this.verdict = select([["", "all"], ["confirmed", "you said Yes"], ["rejected", "you said No"]], "", (value) => this.change({ verdict: value }));
    this.inputs = {};
    this.fields = {};
    for (const [name, caption, placeholder] of [["name", "File name", "part of the name"], ["after", "Recorded from", "2024 or 2024-05-17"], ["before", "Recorded before", "2025"]]) {
      this.inputs[name] = h("input", { type: "text", placeholder, autocomplete: "off", maxlength: 200 });
      this.inputs[name].addEventListener("change", () => this.change({ [name]: this.inputs[name].value.trim() }));
      this.fields[name] = field(caption, this.inputs[name]);
    }
    const scoreField = field("Confidence", this.score);
    scoreField.querySelector("label").append(" ", this.output);
    this.element = h("aside", { class: "filter-panel", "aria-label": "Filters", id: "filters" }, h("h2", { class: "visually-hidden" }, "Filters"),
      scoreField, this.fields.name, this.fields.after, this.fields.before, field("Checked", this.verdict), this.facets);
  }

  sayScore() {
    const value = Number(this.score.value);
    this.output.textContent = value ? `from ${value} %` : "any";
    this.score.setAttribute("aria-valuetext", this.output.textContent);
  }

  show(parameters, problem = null) {
    this.score.value = Math.round(100 * (Number(parameters.score) || 0));
    this.sayScore();
    this.verdict.value = parameters.verdict ?? "";
    for (const [name, input] of Object.entries(this.inputs)) {
      if (input !== document.activeElement) input.value = parameters[name] ?? "";
      this.fields[name].showProblem(problem?.field === name ? problem.message : null);
    }
  }

  // The values that the results have, with their counts.
  showCounts(counts, parameters) {
    const groups = FACETS.map(([key, name, caption]) => facet(caption, name, counts?.[key] ?? [], parameters, counts?.is_complete ? "" : "+"));
    replace(this.facets, groups);
  }
}

function shortFolder(path) {
  const parts = path.split("/").filter(Boolean);
  return parts.length > 2 ? `…/${parts.slice(-2).join("/")}` : path;
}

export function closeFilters(onclick) {
  return iconButton(icon("close"), "Close the filters", onclick, { class: "icon-button filter-close" });
}

// The values of one parameter as links that filter by it, with their counts; null if there is nothing to choose.
export function facet(caption, name, values, parameters, more = "") {
  if (!values.length || (values.length === 1 && !parameters[name])) return null;
  const row = ([value, number]) => {
    const isOn = parameters[name] === value;
    const text = name === "source" ? SOURCES[value] : name === "folder" ? shortFolder(value) : value;
    return h("li", {}, h("a", { class: isOn ? "facet is-on" : "facet", href: link({ ...parameters, [name]: isOn ? "" : value }), title: value, "aria-current": isOn ? "true" : null },
      h("span", {}, text), h("span", { class: "facet-count" }, count(number) + more)));
  };
  const list = h("ul", {}, values.slice(0, SHORT).map(row));
  const rest = values.length > SHORT && button(`Show all ${values.length}`, (event) => {
    list.append(...values.slice(SHORT).map(row));
    list.children[SHORT].querySelector("a").focus();
    event.target.remove();
  }, { class: "button is-quiet is-small" });
  return h("section", { "aria-label": caption }, h("h3", {}, caption), list, rest);
}
