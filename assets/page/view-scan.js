// Scan: choose folders, see the cost, start; what runs and what it finds; what ran, and the files that cannot be read.

import { get, latestOnly, long, post } from "./api.js";
import { momentCard } from "./cards.js";
import { announce, button, field, h, replace, select } from "./dom.js";
import { FolderChooser } from "./folders.js";
import { count, duration, minute, plural } from "./format.js";
import { JobPanel } from "./jobs.js";
import { link } from "./router.js";
import { refresh, state, subscribe } from "./state.js";

const VIEWS = [["center", "the middle of the picture"], ["full", "the whole picture"], ["three", "three crops, averaged"]];
const STATES = { running: "running", paused: "paused", failed: "failed", interrupted: "interrupted: start the same again to go on" };

export default class ScanView {
  constructor() {
    this.title = "Scan";
    this.askHistory = latestOnly();
    this.askFound = latestOnly();
    this.askCost = latestOnly();
    this.folders = h("textarea", { rows: 2, placeholder: "/home/me/Videos", spellcheck: "false", name: "folders" });
    this.folderField = field("Folders on this machine, one a line", this.folders);
    this.chooser = new FolderChooser((path) => this.addFolder(path));
    this.model = select([["", "the library's own"]], "", () => {}, { name: "model" });
    this.stride = h("input", { type: "number", min: 0.1, step: "any", name: "stride_s", placeholder: "no overlap" });
    this.view = select(VIEWS, "center", () => {}, { name: "view" });
    this.retry = h("input", { type: "checkbox" });
    this.force = h("input", { type: "checkbox" });
    this.message = h("p", { class: "scan-message", role: "status" });
    this.problem = h("p", { class: "problem", role: "alert" });
    this.estimate = button("How long?", () => this.showCost());
    this.start = h("button", { class: "button is-primary" }, "Start scan");
    this.form = h("form", { class: "scan-form", "aria-label": "New scan" }, h("h2", {}, "New scan"), this.folderField, this.chooser.element, field("Model", this.model),
      h("details", {}, h("summary", {}, "Options"), field("Seconds from window to window", this.stride), field("Part of each frame", this.view),
        h("label", { class: "check" }, this.retry, "Try again files that could not be read"), h("label", { class: "check" }, this.force, "Scan again what was scanned already")),
      h("p", { class: "form-buttons" }, this.estimate, this.start), this.message, this.problem);
    this.form.addEventListener("input", () => { if (this.problem.textContent || this.message.textContent) this.say(""); }); // it was said of other values
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.submit(); });
    this.jobs = new JobPanel();
    this.moments = h("section", { class: "found", "aria-label": "Found by this scan" });
    this.history = h("section", { class: "history", "aria-label": "Previous runs" });
    this.element = h("section", { class: "view scan-view", "aria-label": "Scan" }, this.form,
      h("div", { class: "scan-now" }, h("h2", {}, "Now"), this.jobs.element, this.moments, this.history));
    subscribe((next, previous) => this.follow(next, previous));
  }

  async show() {
    this.isShown = true;
    if (!state?.was_scanned && !this.folders.value) this.chooser.open();
    this.loadHistory();
    const scan = state?.jobs.active.find((run) => run.kind === "scan");
    if (scan) this.loadFound(scan);
    let models;
    try {
      ({ models } = await get("scan/models"));
    } catch {
      return; // the history says that the server does not answer; the library's own model can be scanned with
    }
    const chosen = this.model.value;
    replace(this.model, [h("option", { value: "" }, "the library's own, else the best that is here"), ...models.map((name) => h("option", { value: name }, name))]);
    this.model.value = chosen;
  }

  needsRetry() {
    return true; // nothing of it is lost
  }

  hide() {
    this.isShown = false;
  }

  addFolder(path) {
    const lines = this.folders.value.split("\n").map((line) => line.trim()).filter(Boolean);
    this.folders.value = [...new Set([...lines, path])].join("\n");
    this.say("");
    announce(`${path} is taken.`);
  }

  values() {
    return {
      folders: this.folders.value.split("\n").map((line) => line.trim()).filter(Boolean),
      model: this.model.value, view: this.view.value, stride_s: this.stride.value === "" ? null : Number(this.stride.value),
      retry_failed: this.retry.checked, force: this.force.checked,
    };
  }

  // The latest message; an estimate that is still being made is of no use any more.
  say(text) {
    this.askCost();
    this.problem.textContent = "";
    this.message.textContent = text;
  }

  fail(error) {
    this.askCost();
    this.message.textContent = "";
    this.problem.textContent = error.message;
  }

  async showCost() {
    this.say("Counting the videos.");
    const isLatest = this.askCost();
    this.estimate.disabled = true;
    try {
      const { plan } = await long("estimate_scan", this.values());
      if (isLatest()) this.say(costSentence(plan));
    } catch (error) {
      if (isLatest()) this.fail(error);
    } finally {
      this.estimate.disabled = false;
    }
  }

  async submit() {
    this.start.disabled = true; // a double press starts one scan
    try {
      const { is_started: isStarted } = await post("scan", this.values());
      this.say(isStarted ? "The scan starts. Its first moments appear in Search while it runs." : "Something runs already: the scan waits for its turn.");
      await refresh();
    } catch (error) {
      this.fail(error);
    } finally {
      window.setTimeout(() => { this.start.disabled = false; }, 700);
    }
  }

  follow(next, previous) {
    this.jobs.show(next.jobs);
    const scan = next.jobs.active.find((run) => run.kind === "scan");
    if (previous && (next.jobs.active.length !== previous.jobs.active.length || next.jobs.starting?.number !== previous.jobs.starting?.number)) {
      this.loadHistory();
      if (previous.jobs.active.length && !next.jobs.active.length) this.message.textContent = "";
    }
    if (scan && scan.id !== this.scanId) {
      this.scanId = scan.id;
      replace(this.moments, []); // the cards are of the scan before
    }
    if (scan && next.revision !== previous?.revision) this.loadFound(scan);
  }

  async loadFound(scan) {
    const after = scan.progress.first_moment;
    if (after === undefined || !this.isShown) return;
    const isLatest = this.askFound();
    try {
      const { moments } = await get("jobs/moments", { after });
      if (isLatest() && scan.id === this.scanId) replace(this.moments, moments.length ? [h("h3", {}, "Found by this scan"), h("div", { class: "card-row" }, moments.map((moment) => momentCard(moment)))] : []);
    } catch { /* the next state tries again */ }
  }

  async loadHistory() {
    if (!this.isShown) return;
    const isLatest = this.askHistory();
    let history;
    try {
      history = await get("jobs/history");
    } catch (error) {
      if (!isLatest()) return;
      replace(this.history, h("p", { class: "problem", role: "alert" }, error.message));
      return;
    }
    if (!isLatest()) return;
    const { failures } = history;
    const runs = history.runs.filter((run) => run.state !== "running" && run.state !== "paused");
    const isNew = !runs.length && !failures.length;
    replace(this.history, h("h3", {}, "Previous runs"), runs.length ? runsTable(runs) : h("p", {}, "Nothing was scanned yet."),
      !isNew && [h("h3", {}, "Files that cannot be read"), failures.length ? failuresTable(failures) : h("p", {}, "Every file could be read.")]);
  }
}

function costSentence(plan) {
  const { skipped, videos } = plan;
  if (!videos) return skipped ? `Nothing new: ${plural(skipped, "video")} in the library and unchanged.` : "There is no video in these folders.";
  const parts = [plural(videos, "video")];
  if (plan.video_seconds) parts.push(`about ${duration(plan.video_seconds)} of video`);
  const time = plan.estimate_seconds ? `: about ${duration(plan.estimate_seconds)} on this machine` : "";
  const unchanged = skipped ? ` ${count(skipped)} more are in the library and unchanged.` : "";
  return `${parts.join(", ")}${time}.${unchanged} You can cancel at any time and go on later.`;
}

function runState(run) {
  const { failed = 0, videos = 0 } = run.progress;
  if (run.state !== "done") return STATES[run.state] ?? run.state;
  if (!failed) return "done";
  return videos <= failed ? "nothing could be read" : `done, ${count(failed)} could not be read`;
}

function runsTable(runs) {
  const rows = runs.map((run) => h("tr", { class: `is-${run.state}` }, h("td", {}, minute(run.started_at)), h("td", {}, run.title), h("td", { class: "path" }, run.subject), h("td", {}, runState(run)),
    h("td", {}, run.progress.videos === undefined || run.kind !== "scan" ? "" : `${count(run.progress.videos - (run.progress.failed ?? 0))} of ${count(run.progress.of ?? 0)}`)));
  return table("Previous runs", ["Started", "Job", "Of", "State", "Videos"], rows);
}

function failuresTable(failures) {
  return table("Files that cannot be read", ["File", "Reason"], failures.map(([path, reason]) => h("tr", {}, h("td", { class: "path" }, path), h("td", {}, reason))));
}

export function table(name, columns, rows) {
  return h("div", { class: "scroll-x", tabindex: "0", role: "region", "aria-label": name },
    h("table", {}, h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col" }, column)))), h("tbody", {}, rows)));
}
