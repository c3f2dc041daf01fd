// Search: the best moments of everything, the results of a query with its filters, or what looks like a moment.

import { get, latestOnly } from "./api.js";
import { momentCard } from "./cards.js";
import { cutDialog, exportDialog } from "./dialogs.js";
import { announce, button, formDialog, h, iconButton, replace, select, toast } from "./dom.js";
import { FilterPanel, activeFilters, filterChips } from "./filters.js";
import { clock, count, day, plural, quoteLabel } from "./format.js";
import { Source, VirtualGrid } from "./grid.js";
import { icon } from "./icons.js";
import { current, link, navigate, update } from "./router.js";
import { Selection } from "./selection.js";
import { annotate, isBusy, state, subscribe } from "./state.js";

const KEPT_LISTS = 10; // so many searches are kept for Back and Forward
const SORTS = [["score", "Best first"], ["date", "Newest video first"], ["length", "Longest first"]];
const GROUPS = [["", "No groups"], ["video", "By video"], ["day", "By day"]];

export default class SearchView {
  constructor() {
    this.title = "Search";
    this.sources = new Map(); // by the address
    this.key = null;
    this.askReload = latestOnly();
    this.filters = new FilterPanel((changes) => update(changes));
    this.grid = new VirtualGrid({
      name: "Moments",
      render: (moment, index) => momentCard(moment, { selection: this.selection, index, onSimilar: (item) => this.showSimilar(item) }),
      onChange: () => this.showSummary(),
    });
    this.selection = new Selection({
      noun: "moment",
      returnFocus: () => this.restoreFocus(),
      idAt: (index) => this.grid.source?.item(index)?.id,
      identify: (moment) => [moment.content, moment.label, moment.start_ms, moment.end_ms].join(),
      // what looks alike are places in videos, not moments of the library
      selectAll: async () => (current().like ? { ids: [], is_complete: true } : get("moments/ids", this.searchParameters(current()))),
      actions: [["Yes", "yes", (ids) => this.judge("confirm", ids)], ["No", "no", (ids) => this.judge("reject", ids)],
        ["Tag", "tag", (ids) => this.tag(ids)], ["Rename", "rename", (ids) => this.rename(ids)],
        ["Cut", "cut", (ids) => cutDialog({ moments: ids })], ["Export", "export", (ids) => exportDialog({ moments: ids })]],
    });
    this.count = h("p", { class: "result-count", role: "status" });
    this.chips = h("div", { class: "search-chips" });
    this.notes = h("div", { class: "search-notes" });
    this.sort = select(SORTS, "score", (value) => update({ sort: value === "score" ? "" : value }), { "aria-label": "Sort" });
    this.group = select(GROUPS, "", (value) => update({ group: value }), { "aria-label": "Group" });
    this.toggle = h("button", { type: "button", class: "button", "aria-expanded": "false", "aria-controls": "filters", onclick: () => this.toggleFilters() }, icon("filter"), "Filters");
    this.surety = h("input", { type: "range", min: -4.5, max: 4.5, step: 0.5, value: 0, "aria-label": "How sure: from fewer and surer to more and less sure" });
    this.surety.addEventListener("input", () => { window.clearTimeout(this.sliding); this.sliding = window.setTimeout(() => this.changeSurety(), 120); });
    this.fresh = button("Show what is new", () => this.reload(), { class: "button is-primary fresh", hidden: true });
    this.heading = h("h2", { class: "result-heading", tabindex: "-1" });
    this.element = h("section", { class: "view search-view", "aria-label": "Search" },
      h("div", { class: "toolbar" }, this.toggle, this.count, this.chips, h("span", { class: "spring" }), this.fresh,
        h("span", { class: "surety" }, h("span", { "aria-hidden": "true" }, "fewer, surer"), this.surety, h("span", { "aria-hidden": "true" }, "more, less sure")), this.group, this.sort),
      h("div", { class: "search-body" }, this.filters.element,
        h("div", { class: "search-results" }, this.heading, this.notes, this.grid.element)),
      this.selection.bar);
    if (window.matchMedia("(min-width: 1200px)").matches) this.toggleFilters(true);
    subscribe((next, previous) => this.follow(next, previous));
    document.addEventListener("annotations-changed", () => this.refreshLoaded());
  }

  toggleFilters(isOpen = !this.element.classList.contains("has-filters")) {
    this.element.classList.toggle("has-filters", isOpen);
    this.toggle.setAttribute("aria-expanded", String(isOpen));
  }

  // The slider goes from a high margin (fewer, surer) on the left to a low one; the library's own removes the parameter.
  changeSurety() {
    const margin = -Number(this.surety.value);
    update({ margin: margin === (this.libraryMargin ?? 0) ? "" : margin }, { replace: true });
  }

  showSurety(parameters) {
    const margin = parameters.margin === undefined ? this.libraryMargin ?? 0 : Number(parameters.margin);
    if (document.activeElement !== this.surety) this.surety.value = -margin;
    this.surety.setAttribute("aria-valuetext", margin > 0 ? "fewer, surer" : margin < 0 ? "more, less sure" : "as the model means it");
  }

  // The parameters of a search's requests.
  searchParameters(parameters) {
    return { q: parameters.q, ...activeFilters(parameters), sort: parameters.sort, margin: parameters.margin };
  }

  async show(parameters, isReturn) {
    if (this.isShown && this.grid.source) this.grid.source.scrollY = window.scrollY;
    this.isShown = true;
    const key = link(parameters);
    const isSame = key === this.key;
    this.key = key;
    this.sort.value = parameters.sort ?? "score";
    this.group.value = parameters.group ?? "";
    this.filters.show(parameters);
    this.showSurety(parameters);
    replace(this.chips, filterChips(parameters));
    const isSimilar = Boolean(parameters.like);
    this.element.classList.toggle("is-similar", isSimilar);
    let source = this.sources.get(key);
    if (!source || (source.isStale && (!isReturn || !source.total))) source = this.makeSource(parameters);
    this.fresh.hidden = !source.isStale;
    this.keep(key, source);
    if (!isSame) this.selection.clear();
    const scrollY = isReturn || isSame ? source.scrollY : 0;
    const drawing = this.grid.show(source);
    this.showSummary(); // what was said of the list before is no longer true
    await drawing;
    if (this.grid.source !== source || !this.isShown) return; // another list or another view is there now
    window.scrollTo(0, scrollY);
    this.showSummary();
    if (source.counts) this.filters.showCounts(source.counts, parameters); // those of before, until it is counted again
    if (!isSimilar && !(source.counts && isReturn && !source.isStale)) this.loadCounts(parameters, source);
  }

  needsRetry() {
    return Boolean(this.grid.source?.failure);
  }

  hide() {
    if (this.grid.source) this.grid.source.scrollY = window.scrollY;
    this.isShown = false;
    window.clearTimeout(this.sliding); // it would change another view's address
  }

  // Back from a video, the focus is on its card again.
  restoreFocus() {
    if (this.grid.source?.total) this.grid.focusCard(this.grid.source.activeIndex, { isMoved: false });
  }

  keep(key, source) {
    this.sources.delete(key);
    this.sources.set(key, source);
    while (this.sources.size > KEPT_LISTS) this.sources.delete(this.sources.keys().next().value);
  }

  makeSource(parameters) {
    const load = parameters.like ? this.similarLoader(parameters) : async (offset, limit) => {
      const answer = await get("moments", { ...this.searchParameters(parameters), offset, limit });
      return { ...answer, items: answer.moments };
    };
    const isSureFirst = !parameters.group && !parameters.like;
    const groupOf = isSureFirst ? (moment) => (moment.sure ? "" : "Less sure") : { video: (moment) => moment.path, day: (moment) => (moment.recorded_at ? day(moment.recorded_at) : "No date") }[parameters.group];
    return new Source(load, { groupOf });
  }

  similarLoader(parameters) {
    const [kind, first, second] = String(parameters.like).split(".");
    const what = kind === "m" ? { moment: first } : { content: first, time_ms: second };
    return async (offset, limit) => {
      const answer = await get("similar", { ...what, offset, limit });
      return { ...answer, items: answer.moments };
    };
  }

  async loadCounts(parameters, source) {
    this.counting?.abort();
    this.counting = new AbortController();
    try {
      source.counts = await get("moments/counts", this.searchParameters(parameters), { signal: this.counting.signal });
    } catch (error) {
      if (error.name === "AbortError") return;
      source.counts = null;
      if (error.field && this.grid.source === source) this.filters.show(parameters, error);
    }
    if (this.grid.source !== source) return;
    if (source.counts && this.libraryMargin !== source.counts.margin) {
      this.libraryMargin = source.counts.margin;
      this.showSurety(parameters);
    }
    this.filters.showCounts(source.counts, parameters);
    this.showSummary(true);
  }

  // The heading, the count, and why there is nothing, if so.
  showSummary(isCounted = false) {
    const source = this.grid.source;
    const parameters = current();
    if (!source || parameters.view !== "search") return;
    const { counts, first, failure } = source;
    const isBlank = !parameters.q && !Object.keys(activeFilters(parameters)).length;
    if (parameters.like) {
      this.heading.textContent = first.like ? `Looks like ${first.like.name} at ${clock(first.like.time_ms)}` : "More like this";
      this.count.textContent = source.total === null ? "" : source.isComplete ? plural(source.total, "moment") : "";
    } else {
      this.heading.textContent = isBlank && source.total ? "The best moments of everything" : "";
      this.count.textContent = counts ? countText(counts, source.total) : "";
    }
    this.heading.hidden = !this.heading.textContent;
    replace(this.notes, this.noteElements(source, parameters, isBlank));
    if (failure) announce(failure.message);
    else if (isCounted && this.count.textContent !== this.announced) announce((this.announced = this.count.textContent));
  }

  noteElements(source, parameters, isBlank) {
    const { first, failure } = source;
    if (failure) return [h("p", { class: "problem", role: "alert" }, failure.message)];
    if (source.total === null) return [];
    const notes = (first.meanings ?? []).map(([text, labels]) =>
      h("p", { class: "meanings" }, `“${text}” searched as `, chipList("Meanings", labels.map((label) => [label, quoteLabel(label)]))));
    if (source.total > 0) return isBlank ? [...notes, this.suggestionElements()] : notes;
    if (isBlank) return [emptyLibrary()];
    notes.push(h("p", {}, isBusy() ? "Nothing fits yet; a scan is running." : "Nothing fits this search."));
    if (first.near?.length) notes.push(h("p", { class: "meanings" }, "Near to it: ", chipList("Near to it", first.near.map((label) => [label, quoteLabel(label)]))));
    if (Object.keys(activeFilters(parameters)).length) notes.push(h("p", {}, h("a", { class: "button", href: link({ q: parameters.q, sort: parameters.sort }) }, "Search without the filters")));
    return notes;
  }

  suggestionElements() {
    const { examples = [], groups = [], labels = [] } = this.suggestions ?? {};
    if (!this.suggestions || this.suggestedAt !== state?.revision) this.loadSuggestions();
    return h("div", { class: "suggestions" },
      [["Try", examples.map((example) => [example, example])], ["Groups", groups.map((group) => [group, quoteLabel(group)])],
        ["Labels", labels.map((label) => [label, quoteLabel(label)])]].map(([name, queries]) =>
        queries.length ? h("div", { class: "suggestion-row" }, h("span", {}, name), chipList(name, queries)) : null));
  }

  async loadSuggestions() {
    if (this.isSuggesting) return;
    this.isSuggesting = true;
    const askedAt = state?.revision;
    try {
      const suggestions = await get("suggestions");
      this.suggestedAt = askedAt ?? state?.revision;
      const isChanged = JSON.stringify(suggestions) !== JSON.stringify(this.suggestions);
      this.suggestions = suggestions;
      if (isChanged) this.showSummary();
    } catch { /* the next change tries again */ } finally {
      this.isSuggesting = false;
    }
  }

  // After a change of the library: at the top the list fills by itself; further down a button offers it.
  follow(next, previous) {
    if (!previous || next.revision === previous.revision) {
      if (previous && current().view === "search" && this.grid.source?.total === 0) this.showSummary();
      return;
    }
    for (const source of this.sources.values()) source.isStale = true;
    if (current().view !== "search" || current().like) return;
    const isAtTop = window.scrollY < 150 && !this.selection.ids.size && !this.grid.element.contains(document.activeElement);
    if (isAtTop || this.grid.source?.total === 0) this.reload();
    else this.fresh.hidden = !isBusy();
  }

  async reload() {
    this.fresh.hidden = true;
    const parameters = current();
    const key = link(parameters);
    const isLatest = this.askReload();
    const source = this.makeSource(parameters);
    try {
      await source.ensure(0);
    } catch {
      this.fresh.hidden = this.key !== key; // to be tried again
      return;
    }
    if (!isLatest() || this.key !== key || current().view !== "search") return;
    this.selection.follow(this.grid.source?.items() ?? [], source.items());
    this.keep(key, source);
    await this.grid.show(source, { isSameList: true });
    this.showSummary();
    this.loadCounts(parameters, source);
  }

  // After a correction: what is loaded is read again, in its place.
  async refreshLoaded() {
    const source = this.grid.source;
    if (!source) return;
    const before = source.items();
    try {
      if (!await source.renew()) return;
    } catch {
      return; // it stays stale
    }
    source.isStale = false;
    this.selection.follow(before, source.items());
    if (source === this.grid.source && current().view === "search") {
      this.grid.layOut();
      this.loadCounts(current(), source);
    }
  }

  showSimilar(moment) {
    navigate({ view: "search", like: moment.id !== undefined ? `m.${moment.id}` : `t.${moment.content}.${Math.floor((moment.start_ms + moment.end_ms) / 2)}` });
    this.heading.hidden = false;
    this.heading.focus({ preventScroll: true });
  }

  async judge(action, ids) {
    try {
      await annotate(action, { moments: ids });
      this.selection.remove(ids);
    } catch (error) {
      toast(error.message, { isError: true });
    }
  }

  rename(ids) {
    formDialog(`Rename ${plural(ids.length, "moment")}`, [labelField()], {
      submitCaption: "Rename",
      submit: async ({ label }) => { await annotate("rename", { moments: ids, label }); this.selection.remove(ids); },
    });
  }

  tag(ids) {
    formDialog(`Add a tag to ${plural(ids.length, "moment")}`, [labelField()], {
      submitCaption: "Add the tag",
      submit: async ({ label }) => { await annotate("tag", { moments: ids, label }); this.selection.remove(ids); },
    });
  }
}

export function labelField(value = "") {
  return h("label", { class: "field" }, h("span", {}, "Label"), h("input", { name: "label", list: "all-labels", required: true, maxlength: 200, autocomplete: "off", value, autofocus: true }));
}

export function chipList(name, queries) {
  return h("ul", { class: "chips", "aria-label": name }, queries.map(([caption, query]) => h("li", {}, h("a", { class: "chip", href: link({ q: query }) }, caption))));
}

function emptyLibrary() {
  if (isBusy() || state?.was_scanned) {
    return h("div", { class: "welcome" }, h("h2", {}, isBusy() ? "The first moments appear here while the scan runs" : "No moment was found yet"),
      h("p", {}, isBusy() ? "You can leave this page open or do something else." : "You can add tags of your own while you watch, and teach them; a larger model finds more."),
      h("p", {}, h("a", { class: "button is-primary", href: link({ view: isBusy() ? "scan" : "library" }) }, isBusy() ? "See the scan" : "See all videos")));
  }
  return h("div", { class: "welcome" }, h("h2", {}, "Find what happens in your videos"),
    h("ol", {}, h("li", {}, h("strong", {}, "Choose a folder"), " with videos."),
      h("li", {}, h("strong", {}, "See the cost"), ": how much video there is, and how long this machine takes."),
      h("li", {}, h("strong", {}, "Start"), ": the first moments appear here while the scan runs.")),
    h("p", {}, "vtag reads videos in place and never changes them. Nothing leaves this machine."),
    h("p", {}, h("a", { class: "button is-primary", href: link({ view: "scan" }) }, "Choose a folder")));
}

function countText({ moments, videos, is_complete }, total) {
  if (!moments) return total ? "No sure moment" : "No moment";
  const more = is_complete ? "" : "+";
  return `${count(moments)}${more} ${moments === 1 ? "moment" : "moments"} in ${count(videos)}${more} ${videos === 1 ? "video" : "videos"}`;
}
