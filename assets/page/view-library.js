// Library: all videos, by folder, date, name and tag, endless.

import { get, latestOnly } from "./api.js";
import { videoCard } from "./cards.js";
import { cutDialog, exportDialog, forgetDialog } from "./dialogs.js";
import { field, formDialog, h, replace, select } from "./dom.js";
import { day, plural } from "./format.js";
import { facet } from "./filters.js";
import { Source, VirtualGrid } from "./grid.js";
import { icon } from "./icons.js";
import { current, link, update } from "./router.js";
import { Selection } from "./selection.js";
import { annotate, isBusy, subscribe } from "./state.js";
import { labelField } from "./view-search.js";

const SORTS = [["date", "Newest first"], ["date-reverse", "Oldest first"], ["name", "By name"], ["added", "Added last first"], ["length", "Longest first"]];
const GROUPS = [["", "No groups"], ["day", "By day"], ["folder", "By folder"]];
const STATES = [["", "all videos"], ["untagged", "without a tag"], ["unreadable", "cannot be read"], ["missing", "file is missing"]];
const CHIPS = { folder: (value) => `in ${value}`, name: (value) => `name has “${value}”`, tag: (value) => `tagged ${value}`, year: (value) => `recorded ${value}`,
  state: (value) => STATES.find(([key]) => key === value)?.[1] ?? value };
const KEPT_LISTS = 6;
const REFRESH_MS = 1500; // between two readings of the list while a scan adds videos

export default class LibraryView {
  constructor() {
    this.title = "Library";
    this.askList = latestOnly();
    this.askRefresh = latestOnly();
    this.sources = new Map();
    this.grid = new VirtualGrid({
      name: "Videos",
      render: (video, index) => videoCard(video, { selection: this.selection, index }),
      onChange: () => this.showSummary(),
    });
    this.selection = new Selection({
      noun: "video",
      returnFocus: () => this.restoreFocus(),
      idAt: (index) => this.grid.source?.item(index)?.id,
      selectAll: () => get("videos/ids", this.listParameters(current())),
      actions: [["Tag", "tag", (ids) => this.tag(ids)], ["Cut", "cut", (ids) => cutDialog({ videos: ids })], ["Export", "export", (ids) => exportDialog({ videos: ids })],
        ["Forget", "trash", (ids) => forgetDialog(ids, () => this.selection.clear())]],
      onChange: () => { if (this.grid.source?.isStale) this.becomeStale(); },
    });
    this.count = h("p", { class: "result-count", role: "status" });
    this.chips = h("div", { class: "search-chips" });
    this.name = h("input", { type: "search", placeholder: "part of the path", "aria-label": "File name", maxlength: 200 });
    this.name.addEventListener("input", () => { window.clearTimeout(this.typing); this.typing = window.setTimeout(() => update({ name: this.name.value.trim() }, { replace: true }), 250); });
    this.tagInput = h("input", { list: "all-labels", placeholder: "any tag", autocomplete: "off" });
    this.tagInput.addEventListener("change", () => update({ tag: this.tagInput.value.trim() }));
    this.state = select(STATES, "", (value) => update({ state: value }));
    this.sort = select(SORTS, "date", (value) => update({ sort: value === "date" ? "" : value }), { "aria-label": "Sort" });
    this.group = select(GROUPS, "", (value) => update({ group: value, sort: value === "folder" ? "name" : value === "day" ? "" : current().sort }), { "aria-label": "Group" });
    this.facets = h("div", { class: "facets" });
    this.toggle = h("button", { type: "button", class: "button", "aria-expanded": "false", "aria-controls": "library-filters", onclick: () => this.toggleFilters() }, icon("filter"), "Filters");
    this.note = h("p", { class: "problem", role: "alert" });
    this.nothing = h("div", { class: "search-notes" });
    this.element = h("section", { class: "view library-view", "aria-label": "Library" },
      h("div", { class: "toolbar" }, this.toggle, this.name, this.count, this.chips, h("span", { class: "spring" }), this.group, this.sort),
      h("div", { class: "search-body" },
        h("aside", { class: "filter-panel", id: "library-filters", "aria-label": "Filters" }, h("h2", { class: "visually-hidden" }, "Filters"), field("Tag", this.tagInput), field("Which", this.state), this.facets),
        h("div", { class: "search-results" }, this.note, this.nothing, this.grid.element)),
      this.selection.bar);
    if (window.matchMedia("(min-width: 1200px)").matches) this.toggleFilters(true);
    subscribe((next, previous) => { if (previous && next.revision !== previous.revision) this.becomeStale(); });
  }

  toggleFilters(isOpen = !this.element.classList.contains("has-filters")) {
    this.element.classList.toggle("has-filters", isOpen);
    this.toggle.setAttribute("aria-expanded", String(isOpen));
  }

  listParameters({ folder, name, tag, year, state, sort = "date", group }) {
    const [key, order] = sort.split("-");
    return { folder, name, tag, year, state, sort: key, order, group };
  }

  async show(parameters, isReturn) {
    if (this.isShown && this.grid.source) this.grid.source.scrollY = window.scrollY;
    this.isShown = true;
    const key = link(parameters);
    const isSame = key === this.key;
    this.key = key;
    if (document.activeElement !== this.name) this.name.value = parameters.name ?? "";
    this.tagInput.value = parameters.tag ?? "";
    this.state.value = parameters.state ?? "";
    this.sort.value = parameters.sort ?? "date";
    this.group.value = parameters.group ?? "";
    replace(this.chips, chips(parameters));
    if (!isSame) this.selection.clear();
    let source = this.sources.get(key);
    const isLatest = this.askList();
    if (!source || (source.isStale && !isReturn)) {
      this.grid.setBusy(true); // the list before stays until the next one is there
      source = await this.makeSource(parameters, isLatest);
      if (!isLatest()) return;
      this.grid.setBusy(false);
      if (!source) {
        this.grid.clear();
        this.count.textContent = "";
        replace(this.nothing);
        return;
      }
      if (!isSame) this.selection.clear(); // of the list before
    }
    this.sources.delete(key);
    this.sources.set(key, source);
    while (this.sources.size > KEPT_LISTS) this.sources.delete(this.sources.keys().next().value);
    await this.grid.show(source);
    if (this.key !== key || !this.isShown) return;
    this.note.textContent = source.failure?.message ?? "";
    window.scrollTo(0, isReturn || isSame ? source.scrollY : 0);
    this.showFacets(source.counts, parameters);
    this.showSummary();
  }

  needsRetry() {
    return Boolean(this.note.textContent);
  }

  hide() {
    if (this.grid.source) this.grid.source.scrollY = window.scrollY;
    this.isShown = false;
    window.clearTimeout(this.typing); // it would change another view's address
  }

  restoreFocus() {
    if (this.grid.source?.total) this.grid.focusCard(this.grid.source.activeIndex, { isMoved: false });
  }

  // The list of `parameters`; null if it cannot be read, which is said if it `isLatest`.
  async makeSource(parameters, isLatest) {
    const form = this.listParameters(parameters);
    const load = async (offset, limit) => {
      const { videos, total } = await get("videos", { ...form, offset, limit });
      return { items: videos, total };
    };
    try {
      const counts = await get("videos/counts", form);
      const sections = counts.sections.length ? counts.sections.map(([title, number]) => ({ title: sectionTitle(title, form.group, number), count: number })) : null;
      const source = new Source(load, { sections });
      source.counts = counts;
      return source;
    } catch (error) {
      if (isLatest()) this.note.textContent = error.message;
      return null;
    }
  }

  // After a change of the library the list is read again where it stands, unless something is selected.
  async becomeStale() {
    for (const source of this.sources.values()) source.isStale = true;
    if (!this.isShown || this.selection.ids.size) return;
    window.clearTimeout(this.staleTimer);
    if (Date.now() - (this.refreshedAt ?? 0) < REFRESH_MS) {
      this.staleTimer = window.setTimeout(() => this.becomeStale(), REFRESH_MS);
      return;
    }
    this.refreshedAt = Date.now();
    const parameters = current();
    const isLatest = this.askRefresh();
    const source = await this.makeSource(parameters, isLatest);
    try {
      await Promise.all([...this.grid.cards.keys()].map((index) => source?.ensure(index))); // so that no card blinks
    } catch {
      return; // the next change, or scrolling, asks again
    }
    if (!source || !isLatest() || !this.isShown || link(current()) !== link(parameters)) return;
    source.activeIndex = this.grid.source?.activeIndex ?? 0;
    this.sources.set(this.key, source);
    this.note.textContent = "";
    const { scrollY } = window;
    await this.grid.show(source, { isSameList: true });
    window.scrollTo(0, scrollY);
    this.showFacets(source.counts, parameters);
    this.showSummary();
  }

  showSummary() {
    const total = this.grid.source?.total;
    this.count.textContent = total === null || total === undefined ? "" : plural(total, "video");
    const isNothing = total === 0 && this.isShown;
    replace(this.nothing, isNothing && nothingElements(current()));
    if (this.grid.source?.failure) this.note.textContent = this.grid.source.failure.message;
  }

  showFacets(counts, parameters) {
    if (!counts) return;
    replace(this.facets, facet("Year", "year", counts.years, parameters), facet("Folder", "folder", counts.folders, parameters));
  }

  tag(ids) {
    formDialog(`Add a tag to all of ${plural(ids.length, "video")}`, [labelField()], {
      submitCaption: "Add the tag",
      submit: async ({ label }) => {
        await annotate("tag", { label, ranges: ids.map((content) => ({ content })) });
        this.selection.remove(ids);
      },
    });
  }
}

// Why there is no video, and what to do.
function nothingElements(parameters) {
  const { view, sort, group } = parameters;
  if (Object.keys(CHIPS).some((name) => parameters[name])) {
    return [h("p", {}, "No video fits these filters."), h("p", {}, h("a", { class: "button", href: link({ view, sort, group }) }, "Show all videos"))];
  }
  return h("div", { class: "welcome" }, h("h2", {}, isBusy() ? "The first videos appear here while the scan runs" : "There is no video here yet"),
    h("p", {}, h("a", { class: "button is-primary", href: link({ view: "scan" }) }, isBusy() ? "See the scan" : "Choose a folder")));
}

function chips(parameters) {
  const items = Object.entries(CHIPS).filter(([name]) => parameters[name]).map(([name, say]) =>
    h("li", {}, h("a", { class: "chip is-on", href: link({ ...parameters, [name]: "" }), "aria-label": `Remove the filter: ${say(parameters[name])}` }, say(parameters[name]), icon("close"))));
  return items.length ? h("ul", { class: "chips", "aria-label": "Filters" }, items) : null;
}

function sectionTitle(title, group, number) {
  const name = group === "day" ? (title ? day(`${title}T12:00:00`) : "No date") : title;
  return `${name} · ${plural(number, "video")}`;
}
