// What runs, waits and failed, with its buttons; used by Scan and Teach.

import { post } from "./api.js";
import { button, h, replace, toast } from "./dom.js";
import { count, duration, plural } from "./format.js";
import { refresh } from "./state.js";

const NOTHING = "Nothing runs here that this page can reach.";

export class JobPanel {
  // `isShown(job)` says which kinds of jobs the panel shows; `extra(run)` may add elements below a run.
  constructor({ isShown = () => true, extra = () => [], idle = "Nothing runs." } = {}) {
    Object.assign(this, { isShown, extra, idle });
    this.failure = h("p", { class: "problem", role: "alert", hidden: true });
    this.active = h("div", { class: "job-list" });
    this.activities = h("div", { class: "job-list" });
    this.waiting = h("ol", { class: "waiting-list", "aria-label": "Waiting" });
    this.element = h("section", { class: "job-panel", "aria-label": "What runs" }, this.failure, this.active, this.activities, this.waiting);
    this.rows = new Map(); // by the run's id: a row stays, so that the focus and the bar keep their place
  }

  show(jobs) {
    const failure = jobs.failed_job && this.isShown(jobs.failed_job) ? `${jobs.failed_job.title} of ${jobs.failed_job.subject}: ${jobs.failure}` : "";
    if (this.failure.textContent !== failure) this.failure.textContent = failure;
    this.failure.hidden = !failure;
    const runs = jobs.active.filter(this.isShown);
    for (const [id, row] of this.rows) {
      if (runs.some((run) => run.id === id)) continue;
      row.element.remove();
      this.rows.delete(id);
    }
    for (const run of runs) {
      if (!this.rows.has(run.id)) this.rows.set(run.id, new RunRow(this.extra));
      const row = this.rows.get(run.id);
      row.show(run);
      if (!row.element.isConnected) this.active.append(row.element);
    }
    const starting = jobs.starting && this.isShown(jobs.starting) ? jobs.starting : null;
    const waiting = jobs.waiting.filter(this.isShown);
    const activities = jobs.activities.filter(this.isShown);
    this.showNote([...runs, ...activities], starting, waiting, failure);
    this.showActivities(activities);
    replace(this.waiting, waiting.map((job) => h("li", {}, h("span", {}, h("strong", {}, job.title), " ", job.subject, " waits for its turn"),
      button("Remove", (event) => act("withdraw", { number: job.number }, event.currentTarget), { class: "button is-small", "aria-label": `Remove the waiting ${job.title} of ${job.subject}` }))));
  }

  // Long calls of this page or of another tab, such as a cut.
  showActivities(activities) {
    const focused = this.activities.contains(document.activeElement);
    replace(this.activities, activities.map(({ number, title, done, of, what }) => h("div", { class: "job" },
      h("p", { class: "job-title" }, h("strong", {}, title), " ", what), h("progress", { max: 1, value: done / of, "aria-label": `${title}: done` }),
      h("p", { class: "job-facts" }, `${count(done)} of ${count(of)}`),
      h("p", { class: "job-buttons" }, button("Stop", (event) => act("stop", { number }, event.currentTarget), { class: "button is-small", "aria-label": `Stop the ${title.toLowerCase()}` })))));
    if (focused) this.activities.querySelector("button")?.focus({ preventScroll: true });
  }

  showNote(runs, starting, waiting, failure) {
    const text = runs.length ? "" : starting ? `${starting.title} of ${starting.subject} starts: the model is loaded.` : waiting.length || failure ? "" : this.idle;
    if (this.note === text) return;
    this.note = text;
    this.noteElement?.remove();
    if (!text) return;
    this.noteElement = h("div", { class: "job" }, h("p", { role: "status" }, text),
      starting && h("progress", { max: 1, "aria-label": "starting" }), starting && h("p", { class: "job-buttons" }, button("Cancel", (event) => act("cancel", { job: starting.number }, event.currentTarget), { class: "button is-small", "aria-label": "Cancel what starts" })));
    this.active.append(this.noteElement);
  }
}

class RunRow {
  constructor(extra) {
    this.extra = extra;
    this.title = h("p", { class: "job-title" });
    this.facts = h("p", { class: "job-facts" });
    this.bar = h("progress", { max: 1 });
    this.pause = button("Pause", () => act(this.isPaused ? "resume" : "pause", {}, this.pause), { class: "button is-small" });
    this.cancel = button("Cancel", () => act("cancel", { run: this.id }, this.cancel), { class: "button is-small", "aria-label": "Cancel what runs" });
    this.more = h("div", { class: "job-more" });
    this.element = h("div", { class: "job" }, this.title, this.bar, this.facts, h("p", { class: "job-buttons" }, this.pause, this.cancel), this.more);
  }

  show(run) {
    this.id = run.id;
    this.isPaused = run.state === "paused";
    replace(this.title, h("strong", {}, run.title), " ", run.subject);
    this.facts.textContent = runFacts(run).join(" · ") || "It begins.";
    if (run.share === null) this.bar.removeAttribute("value");
    else this.bar.value = run.share;
    this.bar.setAttribute("aria-label", `${run.title}: done`);
    this.bar.classList.toggle("is-paused", this.isPaused);
    this.pause.hidden = !run.can_pause;
    this.pause.textContent = this.isPaused ? "Go on" : "Pause";
    this.pause.setAttribute("aria-label", this.isPaused ? "Go on with what is paused" : "Pause what runs");
    this.cancel.hidden = !run.is_here;
    replace(this.more, this.extra(run), !run.is_here && h("p", {}, `It runs on ${run.host}.`));
  }
}

export function runFacts(run) {
  const { progress } = run;
  const facts = run.state === "paused" ? ["Paused: it keeps its memory"] : [];
  if (progress.videos !== undefined) facts.push(`${count(progress.videos)} of ${plural(progress.of ?? 0, "video")}`);
  if (progress.elsewhere) facts.push(`waits for ${plural(progress.elsewhere, "video")} that another scan has under way${progress.elsewhere_pids?.length ? ` (process ${progress.elsewhere_pids.join(", ")})` : ""}`);
  if (progress.failed) facts.push(`${count(progress.failed)} cannot be read`);
  if (progress.video_ms) facts.push(`${duration(progress.video_ms / 1000)} of video`);
  if (progress.epoch !== undefined) facts.push(`epoch ${progress.epoch} of ${progress.of ?? "?"}`, `loss ${(progress.loss ?? 0).toFixed(3)}`, `${Math.round(100 * (progress.accuracy ?? 0))} % right`);
  if (progress.to_look) facts.push(`${progress.epoch === undefined ? "reading" : "measuring"}: ${count(progress.looked ?? 0)} of ${count(progress.to_look)} ${progress.what ?? ""}`);
  if (run.speed) facts.push(`${run.speed.toFixed(1)}× real time`);
  if (run.left_s && !progress.to_look) facts.push(`about ${duration(run.left_s)} left`);
  return facts;
}

// Does what a button says, once, however often it is pressed until the server has answered.
async function act(action, body, pressed) {
  if (pressed.getAttribute("aria-disabled") === "true") return;
  pressed.setAttribute("aria-disabled", "true");
  try {
    const { is_done: isDone } = await post(`jobs/${action}`, body);
    if (!isDone) toast(NOTHING);
    else if (action === "cancel") toast("It ends; finished videos are kept. Start the same again to go on.");
  } catch (error) {
    toast(error.message, { isError: true });
  }
  await refresh();
  pressed.removeAttribute("aria-disabled");
}
