// Teach: name a tag, say Yes and No to examples, try it, move its line, keep it; or train from a folder of clips.

import { get, inTurn, latestOnly, long, post } from "./api.js";
import { momentCard } from "./cards.js";
import { confusionMatrix, trainingCharts } from "./charts.js";
import { announce, button, field, formDialog, h, replace, select, toast } from "./dom.js";
import { FolderChooser } from "./folders.js";
import { percent, plural } from "./format.js";
import { icon } from "./icons.js";
import { JobPanel } from "./jobs.js";
import { update } from "./router.js";
import { refresh, subscribe } from "./state.js";
import { table } from "./view-scan.js";

const RANK_MS = 600; // after a Yes or No, until all videos are ranked again
const REST_MS = 1200; // as long as nobody moves on the cards, they may change their places
const MIN_HOURS = 0.1; // of footage: from less, no number an hour can be said
const KINDS = ["finetune", "train", "retag"];
const PARTS = [["head", "the tags alone"], ["stages=1", "the network's last stage, too"], ["stages=2", "the network's last two stages"], ["all", "the whole network"]];

function guide() {
  return h("ol", { class: "guide" }, h("li", {}, h("strong", {}, "Name the tag"), ", or go on with one of yours."),
    h("li", {}, h("strong", {}, "Find some videos"), " that show it by a search or a part of their names, and say Yes to them. Say No to some that only look like it."),
    h("li", {}, h("strong", {}, "See what it would find"), ": everything is ranked anew after each Yes and No, and you move the line."),
    h("li", {}, h("strong", {}, "Keep it"), ": it is found in all that was scanned, and in every later scan."));
}

export default class TeachView {
  constructor() {
    this.title = "Teach";
    this.askTags = latestOnly();
    this.askCandidates = latestOnly();
    this.askExamples = latestOnly();
    this.askLine = latestOnly();
    this.askTraining = latestOnly();
    this.askVerdict = latestOnly();
    this.judgeInTurn = inTurn();
    this.trial = null;
    this.candidates = [];
    this.tag = h("input", { placeholder: "waving", list: "all-labels", autocomplete: "off", maxlength: 200 });
    this.tag.addEventListener("change", () => update({ view: "teach", tag: this.tag.value.trim() }));
    this.tags = h("section", { class: "teach-tags", "aria-label": "Your tags" });
    this.query = h("input", { placeholder: "clapping OR dancing, or part of a file name", autocomplete: "off", maxlength: 2000 });
    this.findForm = h("form", { class: "inline-form", "aria-label": "Find examples" }, field("Find examples by a search", this.query), h("button", { class: "button" }, "Find"));
    this.findForm.addEventListener("submit", (event) => { event.preventDefault(); this.say(""); this.find(); });
    this.tryButton = button("Try it", () => this.try(), { class: "button is-primary" });
    this.keepButton = button("Keep it", () => this.keep());
    this.message = h("p", { class: "teach-message", role: "status" });
    this.ranking = h("p", { class: "hint", role: "status" });
    this.problem = h("p", { class: "problem", role: "alert" });
    this.line = h("input", { type: "range", min: 0.001, max: 0.999, step: 0.001 });
    this.line.addEventListener("input", () => this.moveSoon());
    this.lineField = field("From here on it is this tag", this.line);
    this.lineHint = h("p", { class: "line-hint", "aria-hidden": "true" }, h("span", {}, "more, less sure"), h("span", {}, "fewer, surer"));
    this.metrics = h("div", { class: "teach-metrics" });
    this.trialBox = h("section", { class: "trial", "aria-label": "What it would find", hidden: true }, this.lineField, this.lineHint);
    this.lists = { above: cardList(), below: cardList(), examples: cardList(), moments: cardList(), videos: cardList() };
    this.more = button("Show more", () => this.find(true), { hidden: true });
    this.makeFolderForm();
    this.jobs = new JobPanel({ isShown: (job) => KINDS.includes(job.kind) && !isTrial(job), extra: (run) => trainingCharts(run.progress.history), idle: "" });
    this.unfinished = h("ul", { class: "waiting-list", "aria-label": "Unfinished trainings" });
    this.reports = h("section", { class: "reports", "aria-label": "Trained models" });
    this.element = h("section", { class: "view teach-view", "aria-label": "Teach" },
      h("div", { class: "teach-form" }, h("h2", {}, "Teach a tag"), field("Tag to teach", this.tag), this.tags, this.findForm,
        h("p", { class: "form-buttons" }, this.tryButton, this.keepButton), this.ranking, this.message, this.problem, this.trialBox, this.metrics),
      (this.cards = h("div", { class: "teach-cards" }, guide(), this.lists.above.element, this.lists.below.element, this.lists.examples.element, this.lists.moments.element, this.lists.videos.element, this.more)),
      h("div", { class: "teach-folder" }, this.folderForm, this.jobs.element, this.unfinished, this.reports));
    for (const event of ["pointermove", "pointerdown", "keydown"]) this.cards.addEventListener(event, () => { this.movedAt = Date.now(); });
    subscribe((next, previous) => this.follow(next, previous));
    document.addEventListener("annotations-changed", () => { if (this.isShown) this.readAll(() => this.loadExamples().then(() => { if (this.trial) this.rankSoon(); })); });
  }

  makeFolderForm() {
    this.folder = h("input", { placeholder: "/home/me/labelled", maxlength: 4096, spellcheck: "false" });
    this.folderField = field("Folder with one folder of clips for each tag", this.folder);
    this.part = select(PARTS, "head", (value) => { this.epochField.hidden = value === "head"; });
    this.epochs = h("input", { type: "number", min: 1, max: 10000, value: 30 });
    this.epochField = field("Epochs, at most", this.epochs, { hidden: true });
    this.folderMessage = h("p", { role: "status" });
    this.folderButton = h("button", { class: "button is-primary" }, "Teach from this folder");
    const chooser = new FolderChooser((path) => { this.folder.value = path; this.folderField.showProblem(null); announce(`${path} is taken.`); });
    const form = h("form", { class: "scan-form", "aria-label": "Teach from a folder" }, this.folderField, chooser.element, field("What learns", this.part),
      h("p", { class: "hint" }, "The tags alone take seconds, and are found in all scanned videos. The network needs a GPU and many clips, and the videos must be scanned again."),
      this.epochField, h("p", { class: "form-buttons" }, this.folderButton), this.folderMessage);
    form.addEventListener("submit", (event) => { event.preventDefault(); this.startTraining(); });
    this.folderForm = h("details", { class: "folder-training" }, h("summary", {}, h("h2", {}, "Teach from a folder of labelled clips")), form);
  }

  async show(parameters) {
    this.isShown = true;
    const tag = parameters.tag ?? "";
    if (tag !== this.shownTag) {
      this.shownTag = tag;
      this.dropRanking();
      this.tag.value = tag;
      this.setTrial(null);
      this.say("");
      this.askCandidates(); // what was found carries the Yes and No of the tag before
      for (const name of ["moments", "videos"]) this.lists[name].update((each) => ({ ...each, said: "" }), (each) => this.card(each));
      if (tag && (this.lists.moments.items.length || this.lists.videos.items.length)) this.find();
    }
    if (parameters.q && parameters.q !== this.query.value) {
      this.query.value = parameters.q;
      this.say("");
      this.find();
    }
    await this.readAll(() => Promise.all([this.loadTags(), this.loadExamples(), this.loadTraining()]));
  }

  // Run `read`; what goes wrong is said in the form.
  async readAll(read) {
    try {
      await read();
      if (this.isReadFailed) this.problem.textContent = "";
      this.isReadFailed = false;
    } catch (error) {
      this.fail(error);
      this.isReadFailed = true;
    }
  }

  needsRetry() {
    return true; // nothing of it is lost
  }

  hide() {
    this.isShown = false;
  }

  name() {
    return this.tag.value.trim();
  }

  say(text) {
    this.isReadFailed = false;
    this.problem.textContent = "";
    this.message.textContent = text;
  }

  fail(error) {
    this.message.textContent = "";
    this.problem.textContent = error.message;
  }

  async loadTags() {
    const isLatest = this.askTags();
    const { tags } = await get("teach/tags");
    if (!isLatest()) return;
    replace(this.tags, tags.length ? [h("h3", {}, "Your tags"), h("ul", { class: "chips" }, tags.map(([tag, number]) => h("li", {},
      button(`${tag} (${number})`, () => update({ view: "teach", tag }), { class: tag === this.name() ? "chip is-on" : "chip", "aria-label": `Go on with ${tag}` }))))] : []);
    const isKnown = tags.some(([tag]) => tag === this.name());
    if (isKnown) this.tags.append(h("p", { class: "form-buttons" }, button([icon("rename"), "Rename the tag"], () => this.rename(), { class: "button is-small" }),
      button([icon("trash"), "Remove the tag"], () => this.remove(), { class: "button is-small" })));
  }

  async loadExamples() {
    const tag = this.name();
    const isLatest = this.askExamples();
    const { examples } = tag ? await get("teach/examples", { tag }) : { examples: [] };
    if (!isLatest() || tag !== this.name()) return;
    const yes = examples.filter((each) => each.said !== "rejected").length;
    const title = examples.length ? `${yes} of ${tag}, ${examples.length - yes} of something else`
      : tag ? "No example yet: find moments that show it and say Yes" : "";
    this.lists.examples.show(title, examples, (each) => this.card(each));
    this.saidBy = new Map(examples.map((each) => [key(each), each.said]));
    for (const name of ["above", "below", "moments", "videos"]) this.lists[name].update((each) => ({ ...each, said: this.saidBy.get(key(each)) ?? each.said }), (each) => this.card(each));
  }

  async find(isMore = false) {
    if (!isMore) this.offset = 0;
    const isLatest = this.askCandidates();
    try {
      const answer = await get("teach/candidates", { q: this.query.value.trim(), tag: this.name(), offset: this.offset });
      if (!isLatest()) return;
      this.offset += 24;
      const moments = isMore ? [...this.lists.moments.items, ...answer.moments] : answer.moments;
      const videos = isMore ? [...this.lists.videos.items, ...answer.videos] : answer.videos;
      this.lists.moments.show(moments.length ? "Which of these show it?" : "", moments, (each) => this.card(each));
      this.lists.videos.show(videos.length ? "Whole videos" : "", videos, (each) => this.card(each));
      this.more.hidden = !answer.has_more;
      if (!moments.length && !videos.length) this.say(answer.problem || "Nothing fits this search.");
      if (!isMore) announce(`${plural(moments.length, "moment")} and ${plural(videos.length, "video")}`);
    } catch (error) {
      if (isLatest()) this.fail(error);
    }
  }

  // A card with Yes and No.
  card(item) {
    const card = momentCard({ ...item, label: item.label ?? undefined, source: "", verdict: "", alike: undefined, score: item.score ?? 0, id: item.id });
    const subject = `${item.name} ${card.querySelector(".card-time").textContent}`;
    const verdict = (isExample, caption, isPressed) => button(caption, () => this.judge(item, isExample),
      { class: "button is-small", "aria-pressed": String(isPressed), "aria-label": `${caption}${isExample ? "" : ", not"}: ${subject}` });
    if (item.score === undefined) card.querySelector(".card-confidence").remove();
    card.append(h("span", { class: "verdict-buttons" }, verdict(true, "Yes", item.said === "confirmed" || item.said === "added"), verdict(false, "No", item.said === "rejected")));
    return card;
  }

  // The card says it at once; the server is told of one after the other, so that the last press counts.
  judge(item, isExample) {
    const tag = this.name();
    this.askExamples(); // an answer of before this press
    if (tag) this.showVerdict(item, isExample ? "confirmed" : "rejected");
    this.dropRanking();
    const isLatest = this.askVerdict();
    const judging = this.judgeInTurn(async () => {
      try {
        const { message } = await post("teach/verdict", { tag, content: item.content, start_ms: item.start_ms, end_ms: item.end_ms, is_example: isExample });
        announce(message);
      } catch (error) {
        this.showVerdict(item, item.said);
        this.fail(error);
      }
    });
    judging.then(() => { if (isLatest()) this.readAll(() => this.afterVerdicts(tag)); });
  }

  showVerdict(item, verdict) {
    const focused = this.cards.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
    for (const list of Object.values(this.lists)) list.update((each) => (key(each) === key(item) ? { ...each, said: verdict } : each), (each) => this.card(each));
    if (focused && document.activeElement === document.body) this.focusAgain(focused);
  }

  async afterVerdicts(tag) {
    const focused = this.cards.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
    await this.loadExamples();
    if (focused && document.activeElement === document.body) this.focusAgain(focused);
    refresh();
    if (tag === this.name()) this.rankSoon();
    await this.loadTags();
  }

  // After the cards were drawn again, the focus is on what has the same name.
  focusAgain(name) {
    [...this.cards.querySelectorAll("button, a")].find((each) => each.getAttribute("aria-label") === name)?.focus({ preventScroll: true });
  }

  // The ranking follows what was said, without a press: once nothing more was said for a moment.
  rankSoon() {
    this.dropRanking();
    this.rankTimer = window.setTimeout(() => this.rank(), RANK_MS);
  }

  // What is being ranked is of no use any more.
  dropRanking() {
    window.clearTimeout(this.rankTimer);
    this.rankNumber = (this.rankNumber ?? 0) + 1;
    this.isRankingWanted = false;
  }

  async rank() {
    if (this.isRanking) {
      this.isRankingWanted = true;
      return;
    }
    if (!this.lists.examples.items.some((each) => each.said !== "rejected")) return;
    const { rankNumber: number } = this;
    const isCurrent = () => number === this.rankNumber;
    this.isRanking = true;
    this.ranking.textContent = "All videos are being ranked.";
    try {
      const trial = await long("try_tag", { tag: this.name() });
      while (isCurrent() && Date.now() - (this.movedAt ?? 0) < REST_MS) await new Promise((resolve) => { window.setTimeout(resolve, REST_MS / 4); });
      if (isCurrent()) this.setTrial(trial);
    } catch (error) {
      if (isCurrent()) this.fail(error);
    } finally {
      this.isRanking = false;
      this.ranking.textContent = "";
    }
    if (!this.isRankingWanted) return;
    this.isRankingWanted = false;
    this.rank();
  }

  // The answer of a call about the tag; null if it fails, or if another tag is shown by then.
  async work(name, body, sentence) {
    this.dropRanking();
    this.say(sentence);
    this.tryButton.disabled = this.keepButton.disabled = true;
    try {
      const answer = await long(name, body);
      return body.tag === this.name() ? answer : null;
    } catch (error) {
      if (body.tag === this.name()) this.fail(error);
      return null;
    } finally {
      this.tryButton.disabled = this.keepButton.disabled = false;
    }
  }

  async try() {
    const trial = await this.work("try_tag", { tag: this.name() }, "Trying: this takes a few seconds.");
    if (trial) this.setTrial(trial);
  }

  async keep() {
    const { line, preset } = this.trial ?? {};
    const answer = await this.work("keep_tags", { tag: this.name(), line, preset }, "Keeping: this takes a few seconds.");
    if (answer) this.say(answer.message);
    await refresh();
  }

  setTrial(trial) {
    window.clearTimeout(this.moving);
    this.askLine(); // the line of another trial
    const focused = this.cards.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
    this.trial = trial;
    this.trialBox.hidden = !trial;
    this.lists.above.show(trial ? "It would find" : "", trial?.above ?? [], (each) => this.card(each));
    this.lists.below.show(trial?.below.length ? "Less sure, below the line" : "", trial?.below ?? [], (each) => this.card(each));
    replace(this.metrics, trial ? metricsTable(trial.metrics) : []);
    if (focused) this.focusAgain(focused);
    if (!trial) return;
    this.line.value = trial.line;
    this.line.setAttribute("aria-valuetext", percent(trial.line));
    this.say(`${trial.sentence} Say Yes or No, or move the line; then keep it.`);
  }

  moveSoon() {
    this.movedAt = Date.now();
    this.line.setAttribute("aria-valuetext", percent(Number(this.line.value)));
    window.clearTimeout(this.moving);
    this.moving = window.setTimeout(() => this.moveLine(), 150);
  }

  async moveLine() {
    const isLatest = this.askLine();
    const { metrics } = this.trial;
    const line = this.line.value;
    try {
      const moved = await post("teach/line", { tag: this.name(), line: Number(line) });
      if (isLatest() && line === this.line.value) this.setTrial({ ...moved, metrics }); // else it has moved on
    } catch (error) {
      if (isLatest()) this.fail(error);
    }
  }

  rename() {
    const tag = this.name();
    formDialog(`Rename ${tag} in all its examples`, [field("New name", h("input", { name: "name", required: true, maxlength: 200, autocomplete: "off" }))], {
      submitCaption: "Rename",
      submit: async ({ name }) => {
        const { message } = await long("rename_tag", { tag, name });
        this.leaveTag(tag, name.trim());
        this.say(message);
        await refresh();
      },
    });
  }

  remove() {
    const tag = this.name();
    const number = this.lists.examples.items.length;
    formDialog(`Remove ${tag}?`, [h("p", {}, `Its ${plural(number, "example")} and the moments that were found with it go, too. Undo brings the examples back.`)], {
      submitCaption: "Remove the tag", isDangerous: true,
      submit: async () => {
        const { message } = await long("remove_tag", { tag });
        this.leaveTag(tag, "");
        this.say(message);
        await refresh();
      },
    });
  }

  // Show another tag instead of one that is gone, if it is still shown.
  leaveTag(tag, next) {
    if (this.isShown && tag === this.name()) update({ view: "teach", tag: next });
  }

  async startTraining() {
    this.folderField.showProblem(null);
    this.folderMessage.textContent = "";
    this.folderButton.disabled = true;
    try {
      const { message } = await post("teach/folder", { folder: this.folder.value, part: this.part.value, epochs: Number(this.epochs.value) || 30 });
      this.folderMessage.textContent = message;
      await refresh();
    } catch (error) {
      this.folderField.showProblem(error.message);
    } finally {
      this.folderButton.disabled = false;
    }
  }

  async loadTraining() {
    const isLatest = this.askTraining();
    const [{ names }, { reports }] = await Promise.all([get("teach/unfinished"), get("teach/reports")]);
    if (!isLatest()) return; // an answer that is overtaken knows less
    if (names.length) this.folderForm.open = true;
    replace(this.unfinished, names.map((name) => h("li", {}, h("span", {}, h("strong", {}, name), " was left before its end: the same folder and settings go on with it."),
      button("Discard", () => this.discard(name), { class: "button is-small", "aria-label": `Discard the unfinished training of ${name}` }))));
    const open = new Set([...this.reports.querySelectorAll("details[open]")].map((each) => each.dataset.name));
    replace(this.reports, reports.length ? [h("h2", {}, "Trained models"), reports.map((report) => reportElement(report, open.has(report.name)))] : []);
  }

  async discard(name) {
    try {
      await post("teach/discard", { name });
    } catch (error) {
      toast(error.message, { isError: true });
    }
    await this.readAll(() => this.loadTraining());
  }

  follow(next, previous) {
    this.jobs.show(next.jobs);
    const { failed_job: failed } = next.jobs;
    if (failed && KINDS.includes(failed.kind) && failed.number !== previous?.jobs.failed_job?.number) this.folderMessage.textContent = ""; // the reason stands below
    const isTraining = (each) => each?.jobs.active.some((run) => KINDS.includes(run.kind)) || KINDS.includes(each?.jobs.starting?.kind);
    if (isTraining(next)) this.folderForm.open ||= next.jobs.active.some((run) => run.kind !== "retag" && !isTrial(run));
    if (this.isShown && previous && (isTraining(previous) || isTraining(next)) && (!isTraining(next) || next.revision !== previous.revision)) this.readAll(() => this.loadTraining());
  }
}

function isTrial(job) {
  return Boolean(job.is_trial);
}

function key(item) {
  return `${item.content} ${item.start_ms} ${item.end_ms}`;
}

// A titled list of cards that is drawn again without losing its place.
function cardList() {
  const title = h("h3");
  const cards = h("div", { class: "card-row" });
  const element = h("section", { hidden: true }, title, cards);
  const list = {
    element,
    items: [],
    show(text, items, render) {
      list.items = items;
      element.hidden = !text;
      title.textContent = text;
      element.setAttribute("aria-label", text);
      replace(cards, items.map(render));
    },
    update(change, render) {
      for (const [i, item] of list.items.entries()) {
        const next = change(item);
        if (next.said === item.said) continue;
        list.items[i] = next;
        cards.children[i].replaceWith(render(next));
      }
    },
  };
  return list;
}

function metricsTable(metrics) {
  const rows = Object.entries(metrics.labels ?? {}).map(([label, row]) => h("tr", {}, h("td", {}, label), h("td", {}, String(row.clips ?? "")), h("td", {}, String(row.sources ?? "")),
    h("td", {}, share(row.recall)), h("td", {}, share(row.precision)), h("td", {}, (row.threshold ?? 0).toFixed(2))));
  if (!rows.length) return [];
  const perHour = metrics.false_per_hour ?? metrics.false_moments_per_hour;
  return [table("Metrics", ["Tag", "Examples", "Videos", "Found of it", "Right of found", "Line"], rows),
    perHour !== null && perHour !== undefined && metrics.negative_hours >= MIN_HOURS && h("p", {}, `${perHour.toFixed(1)} false moments an hour, over ${metrics.negative_hours.toFixed(1)} hours of your library`),
    (metrics.remarks ?? []).map((remark) => h("p", {}, String(remark)))];
}

function reportElement({ name, metrics, history }, isOpen) {
  const labels = Object.keys(metrics.labels);
  const matrix = metrics.confusion;
  const details = h("details", { class: "report", data: { name } }, h("summary", {}, name), metricsTable(metrics),
    Array.isArray(matrix) && matrix.length === labels.length ? confusionMatrix(labels, matrix) : null, h("div", { class: "charts" }, trainingCharts(history)));
  details.open = isOpen;
  return details;
}

function share(value) {
  return value === null || value === undefined ? "–" : percent(value);
}
