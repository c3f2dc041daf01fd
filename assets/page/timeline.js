// The timeline of a video: a row for each label, which zooms; ranges are dragged, ends of tags moved; a score as a curve.

import { button, h, iconButton, replace } from "./dom.js";
import { clock, clockRange, hueClass, percent, preciseClock } from "./format.js";
import { icon, svg } from "./icons.js";

const MIN_SPAN_MS = 2000; // of the part that is shown
const NUDGE_MS = 100;
const NUDGED_MS = 500; // after the last key, an end that was moved by keys stays where it is

export class Timeline extends EventTarget {
  // Events: "seek" (detail: ms), "select" (detail: moment), "move" (detail: { moment, start_ms, end_ms }), "range".
  // `extra` stands at the right of its bar.
  constructor(extra = null) {
    super();
    this.moments = [];
    this.durationMs = 1;
    this.window = [0, 1]; // what is shown
    this.range = null; // { start_ms, end_ms }: what will become a tag
    this.selected = null;
    this.nudged = null; // { moment, start_ms, end_ms }: a tag whose end is being moved by keys
    this.curve = null;
    this.timeMs = 0;
    this.ruler = h("div", { class: "track ruler", "aria-label": "Drag over a range to tag it" });
    this.rows = h("div", { class: "timeline-rows" });
    this.overview = h("div", { class: "overview", "aria-hidden": "true" });
    this.zoomOut = iconButton(icon("zoomOut"), "Show more of the video (-)", () => this.zoom(2));
    this.zoomIn = iconButton(icon("zoomIn"), "Zoom in (+)", () => this.zoom(0.5));
    this.span = h("output", { class: "timeline-span" });
    this.element = h("section", { class: "timeline", "aria-label": "Timeline" },
      h("div", { class: "timeline-bar" }, this.zoomOut, this.zoomIn, button("All", () => this.setWindow(0, this.durationMs), { class: "button is-quiet is-small" }), this.span, h("span", { class: "spring" }), extra ?? ""),
      this.overview, row("", this.ruler), this.rows);
    this.element.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.ruler.addEventListener("pointerdown", (event) => this.dragRange(event));
    this.overview.addEventListener("pointerdown", (event) => this.dragOverview(event));
    document.addEventListener("pointerdown", () => this.sendNudge(), { capture: true });
  }

  show(video) {
    const isOther = video.id !== this.content;
    this.content = video.id;
    this.moments = video.moments.filter((moment) => moment.verdict !== "rejected");
    this.durationMs = Math.max(video.duration_ms, 1, ...video.moments.map((moment) => moment.end_ms));
    if (isOther) {
      this.window = [0, this.durationMs];
      this.range = null;
      this.curve = null;
    }
    this.draw();
  }

  clear() {
    this.content = null;
    this.moments = [];
    this.range = this.curve = null;
    this.durationMs = 1;
    this.window = [0, 1];
    this.endNudge();
    this.draw();
    this.setTime(0);
  }

  select(id) {
    this.selected = id;
    this.draw();
  }

  setTime(ms) {
    this.timeMs = ms;
    this.element.style.setProperty("--at", `${this.percentOf(ms)}%`);
    this.element.style.setProperty("--at-all", `${(100 * ms) / this.durationMs}%`);
    const [from, to] = this.window;
    if (to - from < this.durationMs && (ms < from || ms > to)) this.setWindow(ms - (to - from) * 0.1, ms + (to - from) * 0.9);
  }

  setRange(range) {
    this.range = range && { start_ms: Math.round(range.start_ms), end_ms: Math.round(range.end_ms) };
    this.drawRuler();
    this.dispatchEvent(new Event("range"));
  }

  setCurve(curve) {
    this.curve = curve;
    this.draw();
  }

  zoom(factor) {
    const [from, to] = this.window;
    const center = this.timeMs >= from && this.timeMs <= to ? this.timeMs : (from + to) / 2;
    this.zoomAround(center, factor);
  }

  zoomAround(center, factor) {
    const [from, to] = this.window;
    const span = Math.min(this.durationMs, Math.max(MIN_SPAN_MS, (to - from) * factor));
    const share = (center - from) / (to - from);
    this.setWindow(center - share * span, center + (1 - share) * span);
  }

  setWindow(from, to) {
    const span = Math.min(to - from, this.durationMs);
    const start = Math.min(Math.max(0, from), this.durationMs - span);
    this.window = [start, start + span];
    this.draw();
    this.setTime(this.timeMs);
  }

  wheel(event) {
    if (!event.ctrlKey && !event.shiftKey) return;
    event.preventDefault();
    const [from, to] = this.window;
    if (event.shiftKey) return this.setWindow(from + ((to - from) * (event.deltaY || event.deltaX)) / 800, to + ((to - from) * (event.deltaY || event.deltaX)) / 800);
    this.zoomAround(this.timeAt(event.clientX), event.deltaY > 0 ? 1.25 : 0.8);
  }

  percentOf(ms) {
    const [from, to] = this.window;
    return (100 * (ms - from)) / (to - from);
  }

  timeAt(clientX) {
    const box = this.ruler.getBoundingClientRect();
    const [from, to] = this.window;
    return Math.min(this.durationMs, Math.max(0, from + ((to - from) * (clientX - box.left)) / box.width));
  }

  // Draw everything again; while an end is dragged, afterwards.
  draw() {
    this.isStale = this.isDragging;
    if (this.isDragging) return;
    const [from, to] = this.window;
    this.span.textContent = to - from < this.durationMs ? `${preciseClock(from)}–${preciseClock(to)} of ${clock(this.durationMs)}` : clock(this.durationMs);
    this.zoomOut.disabled = to - from >= this.durationMs;
    this.zoomIn.disabled = to - from <= MIN_SPAN_MS;
    const byLabel = new Map();
    for (const moment of this.moments) byLabel.set(moment.label, [...(byLabel.get(moment.label) ?? []), moment]);
    const focused = this.rows.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
    replace(this.rows, this.curve && this.curveRow(), [...byLabel].map(([label, moments]) => {
      const track = h("div", { class: "track", onpointerdown: (event) => { if (event.target === track) this.emit("seek", this.timeAt(event.clientX)); } },
        moments.filter((moment) => moment.end_ms > from && moment.start_ms < to).map((moment) => this.bar(moment)));
      return row(label, track, hueClass(label));
    }));
    if (focused) this.rows.querySelector(`[data-focus="${focused}"]`)?.focus({ preventScroll: true });
    replace(this.overview, this.moments.map((moment) => {
      const mark = h("i", { class: hueClass(moment.label) });
      place(mark, (100 * moment.start_ms) / this.durationMs, (100 * (moment.end_ms - moment.start_ms)) / this.durationMs);
      return mark;
    }), (() => {
      const part = h("b", {});
      place(part, (100 * from) / this.durationMs, (100 * (to - from)) / this.durationMs);
      return part;
    })());
    this.drawRuler();
  }

  drawRuler() {
    const [from, to] = this.window;
    const step = niceStep((to - from) / 6);
    const ticks = [];
    for (let ms = Math.ceil(from / step) * step; ms <= to; ms += step) {
      const tick = h("span", { class: "tick" }, step < 1000 ? preciseClock(ms) : clock(ms));
      tick.style.left = `${this.percentOf(ms)}%`;
      ticks.push(tick);
    }
    const range = this.range && h("div", { class: "range", title: `Range ${preciseClock(this.range.start_ms)}–${preciseClock(this.range.end_ms)}` });
    if (range) place(range, this.percentOf(this.range.start_ms), this.percentOf(this.range.end_ms) - this.percentOf(this.range.start_ms));
    replace(this.ruler, ticks, range);
  }

  bar(moment) {
    const isSelected = moment.id === this.selected;
    const confidence = moment.is_own ? "yours" : `${percent(moment.score)}${moment.verdict ? `, ${moment.verdict}` : ""}`;
    const name = `${moment.label} ${clockRange(moment.start_ms, moment.end_ms)}, ${confidence}`;
    const bar = h("button", { type: "button", class: `time-bar${isSelected ? " is-selected" : ""}${moment.verdict === "confirmed" ? " is-confirmed" : ""}${moment.sure === false ? " is-less-sure" : ""}`,
      "aria-label": name, title: name, "aria-pressed": String(isSelected), data: { focus: `bar-${moment.id}` }, onclick: () => this.emit("select", moment) });
    const ends = this.endsOf(moment);
    const left = this.percentOf(ends.start_ms);
    const width = this.percentOf(ends.end_ms) - left;
    place(bar, left, width);
    if (!isSelected) return bar;
    return [bar, this.handle(moment, "start_ms", left), this.handle(moment, "end_ms", left + width)];
  }

  // An end of the selected tag, which is dragged, or moved with the arrow keys.
  handle(moment, end, left) {
    const which = end === "start_ms" ? "Start" : "End";
    const ends = this.endsOf(moment);
    const limits = end === "start_ms" ? [0, ends.end_ms - NUDGE_MS] : [ends.start_ms + NUDGE_MS, this.durationMs];
    const handle = h("span", { class: "time-handle", role: "slider", tabindex: "0", "aria-label": `${which} of ${moment.label}`, title: `${which}: drag it, or press the arrow keys`,
      "aria-valuemin": limits[0], "aria-valuemax": limits[1], "aria-valuenow": ends[end], "aria-valuetext": preciseClock(ends[end]), data: { focus: `${end}-${moment.id}` } });
    handle.style.left = `${left}%`;
    const clamp = (ms) => Math.round(Math.min(limits[1], Math.max(limits[0], ms)));
    const finish = (ms) => this.emit("move", { moment, start_ms: moment.start_ms, end_ms: moment.end_ms, [end]: ms });
    handle.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      this.isDragging = true;
      drag(event, (x) => {
        const ms = clamp(this.timeAt(x));
        handle.style.left = `${this.percentOf(ms)}%`;
        handle.title = preciseClock(ms);
        this.emit("seek", ms);
      }, (x, isMoved) => {
        this.isDragging = false;
        if (this.isStale) this.draw();
        if (isMoved) finish(clamp(this.timeAt(x)));
      });
    });
    handle.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
      if (!step) return this.sendNudge(); // before what the other key does, such as Undo
      event.preventDefault();
      event.stopPropagation();
      this.nudge(moment, { [end]: clamp(ends[end] + step * NUDGE_MS * (event.shiftKey ? 10 : 1)) });
    });
    return handle;
  }

  // Where a tag begins and ends, with what the keys did and the library does not know yet.
  endsOf(moment) {
    return this.nudged?.moment.id === moment.id ? this.nudged : moment;
  }

  // Move an end on the page at once; several presses are one change of the library.
  nudge(moment, ends) {
    window.clearTimeout(this.nudging);
    this.nudged = { start_ms: moment.start_ms, end_ms: moment.end_ms, ...(this.nudged?.moment.id === moment.id ? this.nudged : {}), ...ends, moment };
    this.draw();
    this.nudging = window.setTimeout(() => this.sendNudge(), NUDGED_MS);
  }

  sendNudge() {
    if (!this.nudging) return;
    window.clearTimeout(this.nudging);
    this.nudging = 0;
    this.emit("move", this.nudged);
  }

  // The library has the moved tag, or refused it. Keys that were pressed meanwhile still count.
  endNudge() {
    if (!this.nudging) this.nudged = null;
  }

  continueNudge(id, moment) {
    if (this.nudged?.moment.id === id) this.nudged.moment = moment;
  }

  dragRange(event) {
    if (event.button) return;
    event.preventDefault();
    const first = this.timeAt(event.clientX);
    drag(event, (x) => {
      const other = this.timeAt(x);
      this.setRange({ start_ms: Math.min(first, other), end_ms: Math.max(first, other) });
    }, (_, isMoved) => { if (!isMoved) this.emit("seek", first); });
  }

  dragOverview(event) {
    event.preventDefault();
    const box = this.overview.getBoundingClientRect();
    const go = (x) => {
      const center = (this.durationMs * (x - box.left)) / box.width;
      const [from, to] = this.window;
      if (to - from < this.durationMs) this.setWindow(center - (to - from) / 2, center + (to - from) / 2);
      else this.emit("seek", Math.min(this.durationMs, Math.max(0, center)));
    };
    go(event.clientX);
    drag(event, go, () => {});
  }

  // The score of a label over the video, and the line from which on a moment begins.
  curveRow() {
    const { label, points, threshold } = this.curve;
    const [from, to] = this.window;
    const shown = points.filter(([ms], i) => (points[i + 1]?.[0] ?? ms) >= from && (points[i - 1]?.[0] ?? ms) <= to);
    const highest = points.reduce((most, [, score]) => Math.max(most, score), 0);
    const name = points.length ? `Score of ${label}: highest ${percent(highest)}, a moment begins at ${percent(threshold)}` : `There is no score of ${label} for this video`;
    const coordinates = shown.map(([ms, score]) => `${this.percentOf(ms).toFixed(2)},${(40 * (1 - score)).toFixed(2)}`);
    const track = h("div", { class: "track curve", onpointerdown: (event) => this.emit("seek", this.timeAt(event.clientX)) },
      svg("svg", { viewBox: "0 0 100 40", preserveAspectRatio: "none", role: "img", "aria-label": name },
        ...(shown.length ? [svg("polygon", { points: [`${this.percentOf(shown[0][0])},40`, ...coordinates, `${this.percentOf(shown.at(-1)[0])},40`].join(" ") }),
          svg("line", { x1: 0, x2: 100, y1: 40 * (1 - Math.min(1, threshold)), y2: 40 * (1 - Math.min(1, threshold)) })] : [])));
    return row(`${label}: at most ${percent(highest)}`, track, hueClass(label));
  }

  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

function row(label, track, hue = "") {
  return h("div", { class: `timeline-row ${hue}` }, h("span", { class: "row-label", title: label }, label), track);
}

function place(element, left, width) {
  element.style.left = `${left}%`;
  element.style.width = `${width}%`;
}

function niceStep(ms) {
  return [100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000, 1_800_000].find((step) => step >= ms) ?? 3_600_000;
}

// Follow the pointer until it is released; `end(x, isMoved)`.
function drag(event, move, end) {
  const target = event.currentTarget;
  const first = event.clientX;
  let isMoved = false;
  const onMove = (next) => {
    isMoved ||= Math.abs(next.clientX - first) > 3;
    if (isMoved) move(next.clientX);
  };
  const onEnd = (last) => {
    target.removeEventListener("pointermove", onMove);
    target.removeEventListener("pointerup", onEnd);
    target.removeEventListener("pointercancel", onEnd);
    end(last.clientX, isMoved && last.type === "pointerup");
  };
  target.setPointerCapture(event.pointerId);
  target.addEventListener("pointermove", onMove);
  target.addEventListener("pointerup", onEnd);
  target.addEventListener("pointercancel", onEnd);
}
