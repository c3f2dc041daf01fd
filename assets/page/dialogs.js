// Dialogs that write files from moments: cut, export and sidecars. Each shows first what it would do.

import { latestOnly, long, post } from "./api.js";
import { announce, button, field, h, replace, select, toast } from "./dom.js";
import { FolderChooser } from "./folders.js";
import { plural } from "./format.js";
import { refresh } from "./state.js";

const FORMATS = [["csv", "LosslessCut (csv)"], ["json", "JSON"], ["srt", "Subtitles (srt)"], ["vtt", "Subtitles (vtt)"], ["edl", "Edit list (edl)"],
  ["otio", "OpenTimelineIO (otio)"], ["kdenlive", "Kdenlive"], ["fcpxml", "Resolve, Final Cut (fcpxml)"], ["mpv", "mpv"], ["m3u8", "VLC (m3u8)"],
  ["chapters", "Chapters for ffmpeg"], ["matroska", "Chapters for mkvpropedit"], ["xmp", "Keywords beside the videos (XMP sidecars)"]];

// A dialog that asks for a preview, shows it, and then does it. `values()` is the body of the long call `name`.
export class PreviewForm {
  // `onField(error)` may show an error at its field; `done(answer)` is called after the work.
  constructor(name, values, { doCaption, isDangerous = false, done = () => {}, confirm = null }) {
    Object.assign(this, { name, values, done, confirm, ask: latestOnly() });
    this.preview = h("div", { class: "preview", role: "status" });
    this.problem = h("p", { class: "problem", role: "alert" });
    this.bar = h("progress", { max: 1, hidden: true, "aria-label": "done" });
    this.look = button("What would happen?", () => this.run(false));
    this.act = button(doCaption, () => this.run(true), { class: isDangerous ? "button is-dangerous" : "button is-primary", disabled: true });
    this.stop = button("Stop", () => this.controller?.abort(), { hidden: true });
    this.element = h("div", { class: "preview-form" }, h("p", { class: "form-buttons" }, this.look, this.act, this.stop), this.bar, this.problem, this.preview);
  }

  // After a change of a field, the preview has to be seen again.
  reset() {
    this.ask(); // an answer about other values is of no use
    this.act.disabled = true;
    replace(this.preview);
  }

  async run(isApplied) {
    this.problem.textContent = "";
    this.look.disabled = this.act.disabled = true;
    this.bar.hidden = false;
    this.bar.removeAttribute("value");
    this.controller = new AbortController();
    const isLatest = this.ask();
    const isOfOtherValues = () => !isApplied && !isLatest();
    let isReady = false;
    try {
      const answer = await long(this.name, { ...this.values(), apply: isApplied }, { onProgress: (progress) => this.showProgress(progress), signal: this.controller.signal });
      if (isOfOtherValues()) return; // what was asked is not what would be done
      this.say(answer.sentence, answer.items?.length ? h("ul", { class: "preview-items" }, answer.items.map((item) => h("li", {}, item)), answer.more ? h("li", {}, `and ${answer.more} more`) : null) : null);
      isReady = !answer.is_done;
      if (isApplied) await refresh();
      this.confirm?.(answer);
      if (isApplied) this.done(answer);
    } catch (error) {
      isReady = error.name === "AbortError";
      if (isReady) this.say("Stopped. What was done stays, and it can go on from there.");
      else if (this.element.isConnected && !isOfOtherValues()) this.problem.textContent = error.message;
      else if (isApplied) toast(error.message, { isError: true }); // its dialog was closed
    } finally {
      this.look.disabled = false;
      this.act.disabled = !isReady;
      this.bar.hidden = this.stop.hidden = true;
    }
  }

  say(sentence, ...more) {
    replace(this.preview, h("p", {}, sentence), more);
    announce(sentence);
  }

  showProgress(progress) {
    if (!progress?.of) return;
    if (this.stop.hidden) refresh(); // the bar shows it from now on, also if this dialog is closed
    this.stop.hidden = false;
    this.bar.value = progress.done / progress.of;
    replace(this.preview, h("p", {}, `${progress.done} of ${progress.of}: ${progress.what}`));
  }
}

function openDialog(title, ...content) {
  const returnTo = document.activeElement;
  const dialog = h("dialog", { class: "dialog is-wide", "aria-label": title, onclose: () => { dialog.remove(); returnTo?.focus?.(); } }, h("h2", {}, title), content,
    h("form", { method: "dialog", class: "dialog-buttons" }, h("button", { class: "button" }, "Close")));
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

// The field that takes also the less sure moments of a search.
export function lessSureField(onchange) {
  const input = h("input", { type: "checkbox", onchange });
  return { input, element: h("label", { class: "check" }, input, "Less sure ones, too") };
}

// Cut moments (their ids, those of `videos`, or all that `search` finds) into files.
export function cutDialog({ moments = [], videos = [], search = {}, maybe = false }) {
  const lessSure = videos.length ? lessSureField(() => form.reset()) : null;
  const folder = h("input", { placeholder: "/home/me/Clips", maxlength: 4096, spellcheck: "false" });
  const template = h("input", { value: "{name} {start} {label}", maxlength: 200, spellcheck: "false" });
  const exact = h("input", { type: "checkbox" });
  const form = new PreviewForm("cut", () => ({ moments, videos, search, maybe: lessSure?.input.checked ?? maybe, folder: folder.value, template: template.value, reencode: exact.checked }), { doCaption: "Cut", done: (answer) => toast(answer.sentence) });
  const chooser = new FolderChooser((path) => { folder.value = path; form.reset(); });
  for (const input of [folder, template, exact]) input.addEventListener("input", () => form.reset());
  openDialog(title("Cut", moments, videos), h("div", { class: "dialog-fields" }, lessSure?.element, field("Folder for the clips", folder), chooser.element,
    field("File names, from {name} {label} {start} {end} {score} {id} {number}", template),
    h("label", { class: "check" }, exact, "Exact ends: encode again, which is slower"), form.element));
}

// Save moments (their ids, those of `videos`, or all that `search` finds) as a file of another program, or as keywords
// beside the videos.
export function exportDialog({ moments = [], videos = [], search = {}, maybe = false }) {
  const lessSure = videos.length ? lessSureField(() => { sidecars.reset(); showPlan(); }) : null;
  const chosen = () => ({ moments, videos, search, maybe: lessSure?.input.checked ?? maybe });
  const body = () => ({ ...chosen(), format: format.value });
  const plan = h("p", { role: "status" });
  const problem = h("p", { class: "problem", role: "alert" });
  const ask = latestOnly();
  // `act(isLatest)`: what is chosen may change meanwhile, and the dialog may be closed.
  const attempt = async (act) => {
    const isLatest = ask();
    problem.textContent = "";
    save.disabled = true;
    try {
      await act(isLatest);
      if (isLatest()) save.disabled = false;
    } catch (error) {
      if (!problem.isConnected) toast(error.message, { isError: true });
      else if (isLatest()) problem.textContent = error.message;
    }
  };
  const save = button("Save", () => attempt(async () => {
    const file = await post("export", body());
    download(file);
    toast(`${file.name} is saved by the browser.`);
  }), { class: "button is-primary", disabled: true });
  const sidecars = new PreviewForm("sidecars", chosen, { doCaption: "Write keywords", done: (answer) => toast(answer.sentence) });
  const file = h("div", { class: "preview-form" }, plan, h("p", { class: "form-buttons" }, save), problem);
  const showPlan = () => {
    plan.textContent = "";
    sidecars.element.hidden = format.value !== "xmp";
    file.hidden = !sidecars.element.hidden;
    if (file.hidden) ask();
    else attempt(async (isLatest) => {
      const { sentence } = await post("export/plan", body());
      if (isLatest()) plan.textContent = sentence;
    });
  };
  const format = select(FORMATS, "csv", showPlan);
  openDialog(title("Export", moments, videos), h("div", { class: "dialog-fields" }, lessSure?.element, field("Format", format), file, sidecars.element));
  showPlan();
}

// Delete the files of an installed model.
export function removeModelDialog(name, done) {
  const form = new PreviewForm("remove_model", () => ({ name }), { doCaption: "Delete its files", isDangerous: true, done });
  openDialog(`Remove ${name}`, form.element);
  form.run(false);
}

// Forget videos by their ids; the files stay where they are.
export function forgetDialog(videos, done) {
  const loses = h("input", { type: "checkbox" });
  const losesField = h("label", { class: "check", hidden: true }, loses, "My annotations of them may go, too");
  const form = new PreviewForm("forget", () => ({ videos, with_annotations: loses.checked }), {
    doCaption: "Forget", isDangerous: true, confirm: (answer) => { losesField.hidden = !answer.annotations; },
    done: (answer) => { toast(answer.sentence); done(); },
  });
  openDialog(`Forget ${plural(videos.length, "video")}`, h("p", {}, "The library loses what it knows of them."), form.element, losesField);
  form.run(false);
}

function title(verb, moments, videos) {
  if (videos.length) return `${verb} the moments of ${plural(videos.length, "video")}`;
  return moments.length ? `${verb} ${plural(moments.length, "moment")}` : `${verb} what is found`;
}

function download({ name, text, base64 }) {
  const content = base64 ? Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)) : text;
  const address = URL.createObjectURL(new Blob([content], { type: "application/octet-stream" }));
  const anchor = h("a", { href: address, download: name, hidden: true });
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
  window.setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
