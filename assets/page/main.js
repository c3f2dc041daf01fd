// The frame of the page: the bar with search, views and what runs; and the view of the address below it.

import { get, latestOnly } from "./api.js";
import { h, iconButton, messageRegions, noticeRegion, replace, toast } from "./dom.js";
import { count, duration, knowLabels, percent } from "./format.js";
import { icon, svg } from "./icons.js";
import { addKeys, showKeys } from "./keys.js";
import { loadPictures } from "./pictures.js";
import { canGoBack, current, link, navigate, onChange } from "./router.js";
import { redo, refresh, state, subscribe, undo } from "./state.js";
import LibraryView from "./view-library.js";
import ScanView from "./view-scan.js";
import SearchView from "./view-search.js";
import TeachView from "./view-teach.js";
import ToolsView from "./view-tools.js";
import WatchView from "./view-watch.js";

// The views in the order of the bar; one without a caption is reached from a card.
const VIEWS = [
  { name: "search", caption: "Search", icon: "search", create: () => new SearchView() },
  { name: "library", caption: "Library", icon: "library", create: () => new LibraryView() },
  { name: "teach", caption: "Teach", icon: "teach", create: () => new TeachView() },
  { name: "scan", caption: "Scan", icon: "scan", create: () => new ScanView() },
  { name: "tools", caption: "Tools", icon: "tools", create: () => new ToolsView() },
  { name: "watch", create: () => new WatchView() },
];
const views = new Map();
const askShown = latestOnly();
let shown = null;

const query = h("input", { type: "search", name: "q", id: "query", "aria-label": "Search", placeholder: "What happens in it", autocomplete: "off", list: "all-labels", enterkeyhint: "search", maxlength: 2000, spellcheck: "false" });
const labelOptions = h("datalist", { id: "all-labels" });
const jobs = h("div", { class: "bar-job" });
const undoButton = iconButton(icon("undo"), "Undo", () => undo(), { disabled: true });
const redoButton = iconButton(icon("redo"), "Redo", () => redo(), { disabled: true });
const links = VIEWS.filter(({ caption }) => caption).map(({ name, caption, icon: iconName }) =>
  h("a", { href: link({ view: name }), "aria-label": caption, title: caption, data: { view: name } }, icon(iconName), h("span", {}, caption)));
const main = h("main", { id: "content", tabindex: "-1" });

function buildFrame() {
  const form = h("form", { class: "bar-search", role: "search" }, icon("search"), query);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const { view, sort, group } = current();
    const kept = view === "search" ? { sort, group } : {};
    navigate({ view: "search", q: query.value.trim(), ...kept });
  });
  query.addEventListener("search", () => { if (!query.value && current().q) form.requestSubmit(); });
  document.body.append(
    h("a", { class: "skip-link", href: "#content", onclick: (event) => { event.preventDefault(); focusContent(); } }, "Skip to the content"),
    h("header", { class: "bar" },
      h("a", { class: "logo", href: link({ view: "search" }), "aria-label": "vtag, to the first view" }, logo(), h("h1", {}, "vtag")),
      form,
      jobs, // left of the links, so that these stay where they are when a job begins
      h("nav", { "aria-label": "Views" }, links),
      undoButton, redoButton, iconButton(icon("help"), "Keys (?)", showKeys)),
    noticeRegion(), main, labelOptions, ...messageRegions());
}

function logo() {
  return svg("svg", { viewBox: "0 0 32 32", class: "logo-mark", "aria-hidden": "true" },
    svg("rect", { width: 32, height: 32, rx: 7, class: "logo-ground" }),
    svg("path", { d: "M7 9h4l5 12 5-12h4l-7.2 16h-3.6z", class: "logo-letter" }),
    svg("rect", { x: 7, y: 4.5, width: 18, height: 2.5, rx: 1.25, class: "logo-line" }));
}

function focusContent() {
  (main.querySelector(".view:not([hidden]) .card-link[tabindex='0']") ?? main).focus();
}

function show(parameters, isReturn) {
  const definition = VIEWS.find(({ name }) => name === parameters.view) ?? VIEWS[0];
  if (!views.has(definition.name)) {
    views.set(definition.name, definition.create());
    main.append(views.get(definition.name).element);
  }
  const view = views.get(definition.name);
  if (shown && shown !== view) shown.hide?.();
  for (const other of views.values()) other.element.hidden = other !== view;
  const isOther = shown !== view;
  shown = view;
  if (definition.name === "search" && (isReturn || query !== document.activeElement)) query.value = parameters.q ?? "";
  for (const anchor of links) {
    if (anchor.dataset.view === definition.name) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  const isLatest = askShown();
  Promise.resolve(view.show(parameters, isReturn)).catch((error) => toast(error.message, { isError: true })).then(() => {
    loadPictures();
    if (!isLatest()) return; // another view is shown by now
    if (link(current()) === link(parameters)) main.dataset.shown = link(parameters); // all of it is there now
    document.title = [view.subtitle?.() ?? parameters.q, view.title, "vtag"].filter(Boolean).join(" · ");
    if (isOther && isReturn && (document.activeElement === document.body || !document.activeElement.offsetParent)) view.restoreFocus?.();
  });
}

function showState(next) {
  const { active, starting, waiting, activities: [activity] } = next.jobs;
  const run = active.find((each) => !each.is_trial);
  undoButton.disabled = !next.undo;
  redoButton.disabled = !next.redo;
  name(undoButton, next.undo ? `Undo: ${next.undo.text}` : "Undo: nothing was changed");
  name(redoButton, next.redo ? `Redo: ${next.redo.text}` : "Redo: nothing was undone");
  const title = run?.title ?? activity?.title ?? starting?.title;
  const share = run ? run.share : activity ? activity.done / activity.of : null;
  const facts = run ? [run.state === "paused" ? "paused" : run.share ? percent(run.share) : "", run.left_s ? `${duration(run.left_s)} left` : ""]
    : activity ? [`${count(activity.done)} of ${count(activity.of)}`] : [];
  replace(jobs, !title ? [] : h("a", { href: link({ view: "scan" }), class: "bar-job-link", title: run?.subject ?? activity?.what ?? starting.subject },
    h("progress", { max: 1, value: share, "aria-label": title }),
    h("span", {}, [title, ...facts, waiting.length ? `${waiting.length} waiting` : ""].filter(Boolean).join(" · "))));
}

function name(element, text) {
  element.title = text;
  element.setAttribute("aria-label", text);
}

async function loadLabels() {
  const { labels } = await get("labels");
  knowLabels(labels);
  replace(labelOptions, Object.keys(labels).map((label) => h("option", { value: label })));
}

buildFrame();
addKeys("Everywhere", [
  { key: "/", description: "search", run: () => { query.focus(); query.select(); } },
  { key: "Ctrl+z", description: "undo the last correction", run: () => { undo(); } },
  { key: "Ctrl+Shift+z", code: ["Ctrl+Z", "Ctrl+Shift+z", "Ctrl+y"], description: "redo", run: () => { redo(); } },
  { key: "u", description: "undo the last correction", run: () => { undo(); } },
  { key: "Esc", code: "Escape", description: "clear the selection, or back to the results", run: () => escape() },
  { key: "?", description: "these keys", run: showKeys },
]);
addKeys("Results", [
  { key: "arrows", code: ["ArrowRight", "ArrowDown"], description: "go to the cards, and from card to card", run: () => focusContent() },
  { key: "Space", code: "none", description: "select the card", run: () => false },
  { key: "Ctrl+a", description: "select all that is found", run: () => { shown.selection?.all(); } },
  { key: "m", description: "more like the card", run: () => document.activeElement.closest(".card")?.querySelector(".card-similar")?.click() },
], () => Boolean(shown?.grid));

function escape() {
  if (shown.selection?.ids.size) return shown.selection.clear();
  if (current().view !== "watch") return false;
  if (canGoBack()) window.history.back();
  else navigate({ view: "search" });
  return true;
}

onChange(show);
subscribe(showState);
subscribe((next, previous) => { if (previous && next.revision !== previous.revision) loadLabels().catch(() => {}); });
// what could not be read while the server was away; a video plays on
document.addEventListener("answers-again", () => { if (shown?.needsRetry?.()) show(current(), true); });
loadLabels().catch(() => {}).then(() => show(current(), false)); // the colours are those of the labels from the start
refresh();
export { state };
