// Tools: what the library holds, models, and what keeps it tidy.

import { get, latestOnly, post } from "./api.js";
import { columnChart } from "./charts.js";
import { PreviewForm, cutDialog, exportDialog, lessSureField, removeModelDialog } from "./dialogs.js";
import { button, field, h, replace, select, toast } from "./dom.js";
import { FolderChooser } from "./folders.js";
import { count, duration, hueClass, quoteLabel, size } from "./format.js";
import { link } from "./router.js";
import { refresh } from "./state.js";
import { table } from "./view-scan.js";

const TICK_MS = 1000; // how often the progress of downloads is read

export default class ToolsView {
  constructor() {
    this.title = "Tools";
    this.askModels = latestOnly();
    this.overview = h("section", { "aria-label": "The library" });
    this.statistics = h("section", { "aria-label": "Labels" });
    this.models = h("section", { "aria-label": "Models" });
    this.forgetModel = forgetModelTool();
    this.element = h("section", { class: "view tools-view", "aria-label": "Tools" }, this.overview, this.statistics, this.models, filesSection(), tidySection(this.forgetModel.element));
  }

  async show() {
    this.isShown = true;
    const failed = (element) => (error) => replace(element, h("p", { class: "problem", role: "alert" }, error.message));
    await Promise.all([
      get("overview").then((overview) => {
        replace(this.overview, overviewElements(overview));
        this.forgetModel.show(overview.library_models);
      }).catch(failed(this.overview)),
      get("statistics").then((statistics) => replace(this.statistics, statisticElements(statistics))).catch(failed(this.statistics)),
      this.loadModels().catch(failed(this.models)),
    ]);
  }

  needsRetry() {
    return true; // nothing of it is lost
  }

  hide() {
    this.isShown = false;
    window.clearTimeout(this.timer);
  }

  async loadModels(request = get("models")) {
    const isLatest = this.askModels();
    const { models } = await request;
    if (!isLatest()) return;
    const focused = this.models.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
    const act = (path, name) => async () => {
      try {
        await this.loadModels(post(`models/${path}`, { name }));
      } catch (error) {
        toast(error.message, { isError: true });
      }
    };
    replace(this.models, h("h2", {}, "Models"), h("p", {}, "A model is downloaded only when you press Download."),
      table("All models", ["Model", "Size", "From", "Licence", "Accuracy as published", "Here"], models.map((model) => h("tr", {},
        h("td", {}, h("strong", {}, model.name), model.title && h("div", { class: "hint" }, model.title)), h("td", {}, model.size_bytes ? size(model.size_bytes) : "not published"),
        h("td", {}, model.host), h("td", {}, model.licence), h("td", {}, model.accuracy), h("td", {}, modelState(model, act, () => this.loadModels()))))));
    if (focused) [...this.models.querySelectorAll("button")].find((each) => each.getAttribute("aria-label") === focused)?.focus({ preventScroll: true });
    window.clearTimeout(this.timer);
    if (this.isShown && models.some((model) => model.download?.is_running)) this.timer = window.setTimeout(() => this.loadModels().catch(() => {}), TICK_MS);
  }
}

function overviewElements(overview) {
  return [h("h2", {}, "The library"),
    h("dl", { class: "figures" }, [[count(overview.videos), "videos"], [overview.video_ms ? duration(overview.video_ms / 1000) : "0 h", "of video"], [count(overview.failed), "cannot be read"]]
      .map(([number, name]) => h("div", {}, h("dt", {}, name), h("dd", {}, number)))),
    overview.volumes.length ? table("Volumes", ["Volume", "Files", "Missing", "State"], overview.volumes.map((volume) => h("tr", {}, h("td", { class: "path" }, volume.display), h("td", {}, count(volume.files)), h("td", {}, count(volume.missing)),
      h("td", {}, volume.is_connected ? "connected" : "not connected: its videos stay in the library, and play when it is back")))) : h("p", {}, "No folder was scanned yet."),
    table("Disk", ["Disk", "Size"], overview.disk.map(([what, bytes]) => h("tr", {}, h("td", {}, what), h("td", {}, size(bytes)))))];
}

function statisticElements({ moments, labels, counts, periods, series }) {
  const largest = counts[0]?.[1] ?? 1;
  return [h("h2", {}, "Labels"), h("p", {}, `${count(moments)} moments of ${count(labels)} labels`), columnChart("Moments over time", periods, series),
    h("ul", { class: "label-meters", "aria-label": "Labels found" }, counts.map(([name, number]) => h("li", {}, h("a", { href: link({ view: "search", q: quoteLabel(name) }), class: hueClass(name) },
      h("span", {}, name), h("span", { class: "meter", style: { "--share": `${Math.max(1, (100 * number) / largest)}%` } }), h("span", { class: "facet-count" }, count(number))))))];
}

function modelState(model, act, reload) {
  const remove = model.can_remove && button("Remove", () => removeModelDialog(model.name, reload), { class: "button is-small", "aria-label": `Remove ${model.name}` });
  if (model.problem || model.is_installed) return [h("p", {}, model.problem || "here"), remove];
  const { download } = model;
  const start = (caption) => button(caption, act("download", model.name), { class: "button is-small", "aria-label": `${caption}: ${model.name}, ${model.terms}` });
  if (!download) return start("Download");
  if (download.failure) return [h("p", { class: "problem", role: "alert" }, download.failure), start("Try again")];
  const done = size(download.downloaded_bytes);
  if (!download.is_running) return [h("p", {}, `${done} downloaded.`), start("Go on")];
  return [h("progress", model.size_bytes ? { max: 1, value: Math.min(1, download.downloaded_bytes / model.size_bytes), "aria-label": `download of ${model.name}` } : { max: 1, "aria-label": `download of ${model.name}` }),
    h("p", {}, model.size_bytes ? `${done} of ${size(model.size_bytes)}` : done),
    download.can_stop && button("Stop", act("stop", model.name), { class: "button is-small", "aria-label": `Stop the download of ${model.name}` })];
}

function filesSection() {
  const query = h("input", { placeholder: "archery", maxlength: 2000, spellcheck: "false" });
  const lessSure = lessSureField(() => sidecars.reset());
  const chosen = () => ({ search: { q: query.value.trim() }, maybe: lessSure.input.checked });
  const sidecars = new PreviewForm("sidecars", chosen, { doCaption: "Write keywords beside the videos" });
  query.addEventListener("input", () => sidecars.reset());
  return h("section", { "aria-label": "Files from moments" }, h("h2", {}, "Files from moments"), h("p", {}, "Of all that a search finds; to choose single moments, select them in Search."),
    h("div", { class: "tool" }, field("Search", query), lessSure.element, h("p", { class: "form-buttons" }, button("Cut into clips", () => cutDialog(chosen())), button("Export", () => exportDialog(chosen()))),
      h("h3", {}, "Keywords for other programs (XMP sidecars)"), sidecars.element));
}

// Forgets a model of the library with what it found. `show(names)` is given the models that the library knows.
function forgetModelTool() {
  const names = select([], "", () => form.reset());
  const form = new PreviewForm("forget", () => ({ model: names.value }), { doCaption: "Forget", isDangerous: true, done: refresh });
  const element = h("div", { class: "tool", hidden: true }, h("h3", {}, "Forget what a model found"), h("p", {}, "Its moments go, except those that you confirmed. A scan with it finds them again."), field("Model of the library", names), form.element);
  const show = (models) => {
    const chosen = names.value;
    element.hidden = !models.length;
    replace(names, models.map((name) => h("option", { value: name }, name)));
    if (models.includes(chosen)) names.value = chosen;
    else form.reset();
  };
  return { element, show };
}

function tidySection(forgetModel) {
  const old = h("input", { placeholder: "/media/old", maxlength: 4096 });
  const now = h("input", { placeholder: "/media/new", maxlength: 4096 });
  const relocate = new PreviewForm("relocate", () => ({ old: old.value, new: now.value }), { doCaption: "Take the new path", done: refresh });
  const clean = new PreviewForm("clean", () => ({}), { doCaption: "Clean", isDangerous: true, done: refresh });
  const path = h("input", { placeholder: "/home/me/Videos/old", maxlength: 4096 });
  const loses = h("input", { type: "checkbox" });
  const losesField = h("label", { class: "check", hidden: true }, loses, "My annotations of them may go, too");
  const forget = new PreviewForm("forget", () => ({ path: path.value, with_annotations: loses.checked }), { doCaption: "Forget", isDangerous: true, done: refresh, confirm: (answer) => { losesField.hidden = !answer.annotations; } });
  for (const input of [old, now]) input.addEventListener("input", () => relocate.reset());
  path.addEventListener("input", () => forget.reset());
  const chooser = new FolderChooser((folder) => { now.value = folder; relocate.reset(); });
  return h("section", { "aria-label": "Keep it tidy" }, h("h2", {}, "Keep it tidy"),
    h("div", { class: "tools" },
      h("div", { class: "tool" }, h("h3", {}, "A folder is elsewhere now"), h("p", {}, "For example of a disk that has another name. Tags and moments stay."), field("Former path", old), field("Present path", now), chooser.element, relocate.element),
      h("div", { class: "tool" }, h("h3", {}, "Clean"), h("p", {}, "Removes what is known of files that were deleted. Your annotations stay."), clean.element),
      h("div", { class: "tool" }, h("h3", {}, "Forget a file or a folder"), h("p", {}, "Removes what the library knows of it. The videos themselves stay."), field("File or folder", path), losesField, forget.element),
      forgetModel));
}
