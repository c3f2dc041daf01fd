// Watch: a video with its sound, its timeline and its tags, which are corrected here.

import "./player.js";
import { get, inTurn, latestOnly } from "./api.js";
import { announce, button, field, formDialog, h, iconButton, replace, toast } from "./dom.js";
import { clock, day } from "./format.js";
import { icon } from "./icons.js";
import { addKeys } from "./keys.js";
import { canGoBack, current, link, navigate } from "./router.js";
import { annotate, subscribe } from "./state.js";
import { TagPanel } from "./tags.js";
import { Timeline } from "./timeline.js";
import { labelField } from "./view-search.js";

const SPEEDS = [0.25, 0.5, 1, 1.5, 2, 4];

export default class WatchView {
  constructor() {
    this.title = "Watch";
    this.askVideo = latestOnly();
    this.askTags = latestOnly();
    this.askCurve = latestOnly();
    this.selected = null;
    this.moveInTurn = inTurn();
    this.newIds = new Map(); // ids of moved tags, by those before
    this.name = h("h2", { class: "video-name", tabindex: "-1" });
    this.facts = h("p", { class: "video-facts" });
    this.stage = h("div", { class: "stage" });
    this.tags = new TagPanel();
    this.lessSure = h("input", { type: "checkbox", onchange: () => this.reload() });
    this.curveLabel = h("input", { name: "label", list: "all-labels", autocomplete: "off", placeholder: "any label" });
    this.curveField = field("Score of", this.curveLabel);
    this.curveForm = h("form", { class: "curve-form", "aria-label": "Score of a label" }, this.curveField, h("button", { class: "button is-small" }, icon("curve"), "Show"),
      (this.hideCurve = button("Hide", () => { this.showCurve(""); this.curveLabel.focus(); }, { class: "button is-quiet is-small", hidden: true })));
    this.curveForm.addEventListener("submit", (event) => { event.preventDefault(); this.showCurve(this.curveLabel.value.trim()); });
    this.timeline = new Timeline(this.curveForm);
    this.choices = h("div", { class: "watch-choices" }, h("label", { class: "check" }, this.lessSure, "Less sure, too"),
      h("button", { type: "button", class: "button is-small", onclick: () => this.showSimilar(null) }, icon("similar"), "More like what is shown now"));
    this.element = h("section", { class: "view watch-view", "aria-label": "Watch" },
      h("div", { class: "watch-head" }, iconButton(icon("back"), "Back to the results (Esc)", () => this.leave()), h("div", { class: "watch-names" }, this.name, this.facts), this.choices),
      h("div", { class: "watch-body" },
        h("div", { class: "watch-main" }, h("div", { class: "watch-sticky" }, this.stage, this.timeline.element)),
        this.tags.element));
    this.connect();
    this.setVideo(null);
    this.addShortcuts();
  }

  connect() {
    this.timeline.addEventListener("seek", ({ detail }) => this.seek(detail));
    this.timeline.addEventListener("select", ({ detail }) => this.select(detail));
    this.timeline.addEventListener("move", ({ detail }) => this.move(detail));
    this.timeline.addEventListener("range", () => this.tags.showRange(this.timeline.range));
    this.tags.addEventListener("select", ({ detail }) => this.select(detail));
    this.tags.addEventListener("confirm", ({ detail }) => this.correct("confirm", { moments: [detail.id] }));
    this.tags.addEventListener("reject", ({ detail }) => this.correct("reject", { moments: [detail.id] }));
    this.tags.addEventListener("rename", ({ detail }) => this.rename(detail));
    this.tags.addEventListener("similar", ({ detail }) => this.showSimilar(detail));
    this.tags.addEventListener("from", () => this.markIn());
    this.tags.addEventListener("to", () => this.markOut());
    this.tags.addEventListener("add", ({ detail }) => this.add(detail));
    document.addEventListener("annotations-changed", () => this.reload());
    subscribe((next, previous) => { if (previous && next.revision !== previous.revision && !this.element.hidden) this.reload(); });
  }

  async show(parameters, isReturn) {
    const content = Number(parameters.v);
    const selected = Number(parameters.m) || null;
    const startMs = Number(parameters.t) || 0;
    const isLatest = this.askVideo();
    if (this.video?.id === content) {
      this.selected = selected;
      this.showTags();
      this.seek(startMs);
      if (!isReturn) this.player?.play();
      this.name.focus({ preventScroll: true });
      return;
    }
    this.setVideo(null);
    this.player = null;
    replace(this.stage);
    replace(this.facts);
    this.name.textContent = "";
    this.clear();
    this.element.setAttribute("aria-busy", "true");
    let video;
    try {
      video = await get(`videos/${content}`, { less_sure: this.lessSure.checked });
      if (selected && !this.lessSure.checked && !video.moments.some(({ id }) => id === selected)) {
        this.lessSure.checked = true; // it is a less sure one
        video = await get(`videos/${content}`, { less_sure: true });
      }
    } catch (error) {
      if (!isLatest()) return;
      this.element.setAttribute("aria-busy", "false");
      this.name.textContent = "There is no video to show";
      replace(this.stage, h("p", { class: "problem is-final", role: "alert" }, error.message));
      return;
    }
    if (!isLatest() || Number(current().v) !== content) return;
    this.element.setAttribute("aria-busy", "false");
    this.setVideo(video);
    this.selected = selected;
    this.name.textContent = video.name;
    replace(this.facts, [clock(video.duration_ms), video.recorded_at && day(video.recorded_at), video.path].filter(Boolean).join(" · "));
    this.makePlayer(startMs);
    this.timeline.show(video);
    this.showTags();
    window.scrollTo(0, 0);
    this.name.focus({ preventScroll: true });
    announce(`${video.name}, ${video.moments.length} tags`);
  }

  // Nothing can be pressed that needs a video until there is one.
  setVideo(video) {
    this.video = video;
    for (const element of [this.choices, this.timeline.element, this.tags.element]) element.inert = !video;
  }

  // Nothing of another video is shown while one is loaded.
  clear() {
    this.showCurve("");
    this.curveField.showProblem(null);
    this.tags.clearForm();
    this.tags.show([], null);
    this.timeline.clear();
  }

  needsRetry() {
    return !this.video;
  }

  hide() {
    this.player?.pause();
  }

  subtitle() {
    return this.video?.name;
  }

  makePlayer(startMs) {
    if (!this.video.is_connected) {
      replace(this.stage, h("p", { class: "problem" }, "This video is not connected now: connect its disk to play it."));
      return;
    }
    this.player = h("vtag-player", { content: this.video.id, start: startMs / 1000, autoplay: true, width: this.video.width, height: this.video.height });
    this.player.addEventListener("timeupdate", () => this.timeline.setTime(1000 * this.player.currentTime));
    replace(this.stage, this.player);
    this.timeline.setTime(startMs);
  }

  showTags() {
    this.timeline.select(this.selected);
    this.tags.show(this.video.moments, this.selected);
    this.tags.reveal();
  }

  // Read the tags again; the player and what is typed stay.
  async reload() {
    const content = this.video?.id;
    if (!content) return;
    const isLatest = this.askTags();
    try {
      const video = await get(`videos/${content}`, { less_sure: this.lessSure.checked });
      if (this.video?.id !== content || !isLatest()) return;
      const isChanged = JSON.stringify(video.moments) !== JSON.stringify(this.video.moments);
      this.selected = successor(this.selected, this.video.moments, video.moments);
      this.video = video;
      if (!isChanged) return;
      this.timeline.selected = this.selected;
      this.timeline.show(video);
      this.tags.show(video.moments, this.selected);
    } catch (error) {
      toast(error.message, { isError: true });
    }
  }

  seek(ms) {
    this.player?.seek(ms / 1000);
    this.timeline.setTime(ms);
  }

  select(moment) {
    this.selected = moment.id;
    this.seek(moment.start_ms);
    this.player?.play();
    this.showTags();
    const { view, v } = current();
    window.history.replaceState(window.history.state, "", link({ view, v, t: moment.start_ms, end: moment.end_ms, m: moment.id }));
  }

  selectedMoment() {
    return this.video?.moments.find((moment) => moment.id === this.selected) ?? null;
  }

  selectNext(step) {
    const moments = this.video?.moments ?? [];
    const index = moments.findIndex((moment) => moment.id === this.selected);
    const place = Math.round(1000 * (this.player?.currentTime ?? 0)); // of a tag that was removed while it played
    const from = index >= 0 || this.selected === null ? index : moments.filter((moment) => moment.start_ms <= place).length - (step > 0 ? 1 : 0);
    const next = moments[Math.min(moments.length - 1, Math.max(0, from + step))];
    if (!next) return;
    this.select(next);
    this.tags.list.querySelector(".tag-line.is-selected .tag-time")?.focus({ preventScroll: true });
  }

  async correct(path, body) {
    try {
      await annotate(path, body);
    } catch (error) {
      toast(error.message, { isError: true });
    }
  }

  // A moved tag is another one for the library: what is moved again meanwhile waits, and then moves that one.
  move(detail) {
    this.moveInTurn(() => this.moveNow(detail)).catch((error) => toast(error.message, { isError: true }));
  }

  async moveNow({ moment, start_ms: startMs, end_ms: endMs }) {
    let { id } = moment;
    while (this.newIds.has(id)) id = this.newIds.get(id);
    const before = new Set(this.video?.moments.map((other) => other.id));
    const content = this.video?.id;
    const isSelected = this.selected === id;
    const [end] = document.activeElement?.dataset.focus?.split("-") ?? []; // the handle that has the focus
    try {
      await annotate("move", { moment: id, start_ms: startMs, end_ms: endMs });
    } finally {
      if (content === this.video?.id) this.timeline.endNudge();
    }
    await this.reload();
    if (content !== this.video?.id) return;
    const moved = this.video.moments.find((other) => !before.has(other.id) && other.label === moment.label && other.start_ms === startMs);
    if (!moved) return;
    this.newIds.set(id, moved.id);
    this.timeline.continueNudge(id, moved);
    if (!isSelected) return;
    this.selected = moved.id;
    this.showTags();
    if (end) this.timeline.rows.querySelector(`[data-focus="${end}-${moved.id}"]`)?.focus({ preventScroll: true });
  }

  // The form is free for the next tag at once; what is wrong comes back to it, unless something else is there by then.
  async add(values) {
    const content = this.video.id;
    const { range } = this.timeline;
    this.tags.clearForm();
    this.timeline.setRange(null);
    try {
      await annotate("add", { content, ...values });
    } catch (error) {
      if (this.video?.id !== content || !this.tags.isBlank()) {
        toast(`${values.label}: ${error.message}`, { isError: true });
        return;
      }
      this.timeline.setRange(range);
      this.tags.fill(values);
      this.tags.showProblem(error);
    }
  }

  rename(moment) {
    formDialog(`Rename ${moment.label}`, [labelField()], {
      submitCaption: "Rename",
      submit: ({ label }) => annotate("rename", { moments: [moment.id], label }),
    });
  }

  showSimilar(moment) {
    const time = Math.round(1000 * (this.player?.currentTime ?? 0));
    navigate({ view: "search", like: moment ? `m.${moment.id}` : `t.${this.video.id}.${time}` });
  }

  async showCurve(label) {
    this.curveField.showProblem(null);
    const isLatest = this.askCurve();
    if (!label) {
      this.curveLabel.value = "";
      this.drawCurve(null);
      return;
    }
    try {
      const curve = await get(`videos/${this.video.id}/curve`, { label });
      if (isLatest()) this.drawCurve(curve);
    } catch (error) {
      if (isLatest()) this.curveField.showProblem(error.message);
    }
  }

  drawCurve(curve) {
    this.hideCurve.hidden = !curve;
    this.timeline.setCurve(curve);
  }

  now() {
    return Math.round(1000 * (this.player?.currentTime ?? 0));
  }

  markIn() {
    const end = this.timeline.range?.end_ms;
    const start = this.now();
    this.timeline.setRange({ start_ms: start, end_ms: end !== undefined && end > start ? end : Math.min(this.video.duration_ms, start + 1000) });
  }

  markOut() {
    const start = this.timeline.range?.start_ms;
    const end = this.now();
    this.timeline.setRange({ start_ms: start !== undefined && start < end ? start : Math.max(0, end - 1000), end_ms: end });
  }

  leave() {
    if (canGoBack()) window.history.back();
    else navigate({ view: "search" });
  }

  changeSpeed(step) {
    if (!this.player) return;
    const index = SPEEDS.indexOf(this.player.playbackRate);
    this.player.playbackRate = SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, (index < 0 ? 2 : index) + step))];
    announce(`Speed ${this.player.playbackRate}`);
    if (this.player.paused) this.player.play();
  }

  addShortcuts() {
    const skip = (seconds) => this.seek(Math.max(0, this.now() + 1000 * seconds));
    const judge = (action) => { const moment = this.selectedMoment(); if (moment) this.correct(action, { moments: [moment.id] }); };
    addKeys("Watch", [
      { key: "Space", code: " ", description: "play or pause", run: () => { this.player?.toggle(); } },
      { key: "k", description: "play or pause", run: () => { this.player?.toggle(); } },
      { key: "j", description: "slower", run: () => this.changeSpeed(-1) },
      { key: "l", description: "faster", run: () => this.changeSpeed(1) },
      { key: "←", code: ["ArrowLeft", ","], description: "a frame back", run: () => { this.player?.step(-1); } },
      { key: "→", code: ["ArrowRight", "."], description: "a frame on", run: () => { this.player?.step(1); } },
      { key: "Shift+←", code: "Shift+ArrowLeft", description: "five seconds back", run: () => skip(-5) },
      { key: "Shift+→", code: "Shift+ArrowRight", description: "five seconds on", run: () => skip(5) },
      { key: "i", description: "the new tag begins here", run: () => this.markIn() },
      { key: "o", description: "the new tag ends here", run: () => this.markOut() },
      { key: "a", description: "name the new tag", run: () => { this.tags.label.focus(); } },
      { key: "[", description: "to the start of the selected tag", run: () => { const moment = this.selectedMoment(); if (moment) this.seek(moment.start_ms); } },
      { key: "]", description: "to the end of the selected tag", run: () => { const moment = this.selectedMoment(); if (moment) this.seek(moment.end_ms); } },
      { key: "n", code: ["n", "ArrowDown"], description: "next tag", run: () => this.selectNext(1) },
      { key: "p", code: ["p", "ArrowUp"], description: "previous tag", run: () => this.selectNext(-1) },
      { key: "y", description: "yes: the selected tag is right", run: () => judge("confirm") },
      { key: "x", description: "no: the selected tag is wrong", run: () => judge("reject") },
      { key: "r", description: "rename the selected tag", run: () => { const moment = this.selectedMoment(); if (moment) this.rename(moment); } },
      { key: "m", description: "more like the selected tag", run: () => { const moment = this.selectedMoment(); if (moment) this.showSimilar(moment); } },
      { key: "s", description: "more like what is shown now", run: () => this.showSimilar(null) },
      { key: "c", description: "the score of a label", run: () => { this.curveLabel.focus(); } },
      { key: "+", code: ["+", "="], description: "zoom the timeline in", run: () => this.timeline.zoom(0.5) },
      { key: "-", description: "zoom the timeline out", run: () => this.timeline.zoom(2) },
    ], () => !this.element.hidden && this.element.isConnected && Boolean(this.video));
  }
}

// The id of the selected tag after a change: a tag that is renamed goes or is rejected, and another one has its times.
function successor(id, before, after) {
  const old = before.find((moment) => moment.id === id);
  const now = after.find((moment) => moment.id === id);
  if (!old || (now && (now.verdict !== "rejected" || old.verdict === "rejected"))) return id;
  const known = new Set(before.map((moment) => moment.id));
  const there = after.filter((moment) => moment.start_ms === old.start_ms && moment.end_ms === old.end_ms);
  return (there.find((moment) => !known.has(moment.id)) ?? now ?? there[0])?.id ?? id;
}
