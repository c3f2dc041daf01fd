// Dialogs that write files from moments: cut and export. Each shows first what it would do.

import { long, post } from "./api.js";
import { announce, button, field, h, replace, select, toast } from "./dom.js";
import { FolderChooser } from "./folders.js";
import { plural } from "./format.js";

const FORMATS = [["csv", "LosslessCut (csv)"], ["json", "JSON"], ["srt", "Subtitles (srt)"], ["vtt", "Subtitles (vtt)"], ["edl", "Edit list (edl)"],
  ["otio", "OpenTimelineIO (otio)"], ["chapters", "Chapters for ffmpeg"]];

// A dialog that asks for a preview, shows it, and then does it. `values()` is the body of the long call `name`.
export class PreviewForm {
  // `onField(error)` may show an error at its field; `done(answer)` is called after the work.
  constructor(name, values, { doCaption, isDangerous = false, done = () => {}, confirm = null }) {
    Object.assign(this, { name, values, done, confirm });
    this.preview = h("div", { class: "preview", role: "status" });
    this.problem = h("p", { class: "problem", role: "alert" });
    this.bar = h("progress", { max: 1, hidden: true, "aria-label": "done" });
    this.look = button("What would happen?", () => this.run(false));
    this.act = button(doCaption, () => this.run(true), { class: isDangerous ? "button is-dangerous" : "button is-primary", disabled: true });
    this.element = h("div", { class: "preview-form" }, h("p", { class: "form-buttons" }, this.look, this.act), this.bar, this.problem, this.preview);
  }

  // After a change of a field, the preview has to be seen again.
  reset() {
    this.act.disabled = true;
    replace(this.preview);
  }

  async run(isApplied) {
    this.problem.textContent = "";
    this.look.disabled = this.act.disabled = true;
    this.bar.hidden = false;
    this.bar.removeAttribute("value");
    let isReady = false;
    try {
      const answer = await long(this.name, { ...this.values(), apply: isApplied }, { onProgress: (progress) => this.showProgress(progress) });
      replace(this.preview, h("p", {}, answer.sentence), answer.items?.length ? h("ul", { class: "preview-items" }, answer.items.map((item) => h("li", {}, item)), answer.more ? h("li", {}, `and ${answer.more} more`) : null) : null);
      announce(answer.sentence);
      isReady = !answer.is_done;
      this.confirm?.(answer);
      if (isApplied) this.done(answer);
    } catch (error) {
      this.problem.textContent = error.message;
    } finally {
      this.look.disabled = false;
      this.act.disabled = !isReady;
      this.bar.hidden = true;
    }
  }

  showProgress(progress) {
    if (!progress?.of) return;
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

// Cut moments (ids, or all that `search` finds) into files.
export function cutDialog({ moments = [], search = {} }) {
  const folder = h("input", { placeholder: "/home/me/Clips", maxlength: 4096, spellcheck: "false" });
  const template = h("input", { value: "{name} {start} {label}", maxlength: 200, spellcheck: "false" });
  const exact = h("input", { type: "checkbox" });
  const form = new PreviewForm("cut", () => ({ moments, search, folder: folder.value, template: template.value, reencode: exact.checked }), { doCaption: "Cut", done: (answer) => toast(answer.sentence) });
  const chooser = new FolderChooser((path) => { folder.value = path; form.reset(); });
  for (const input of [folder, template, exact]) input.addEventListener("input", () => form.reset());
  openDialog(moments.length ? `Cut ${plural(moments.length, "moment")}` : "Cut what is found", h("div", { class: "dialog-fields" }, field("Folder for the clips", folder), chooser.element,
    field("File names, from {name} {label} {start} {end} {score} {id} {number}", template),
    h("label", { class: "check" }, exact, "Exact ends: encode again, which is slower"), form.element));
}

// Save moments (ids, or all that `search` finds) as a file of another program.
export function exportDialog({ moments = [], search = {} }) {
  const format = select(FORMATS, "csv", () => {});
  const problem = h("p", { class: "problem", role: "alert" });
  const save = button("Save", async () => {
    problem.textContent = "";
    save.disabled = true;
    try {
      const { files } = await post("export", { moments, search, format: format.value });
      for (const file of files) download(file);
      toast(`${plural(files.length, "file")} saved by the browser.`);
    } catch (error) {
      problem.textContent = error.message;
    } finally {
      save.disabled = false;
    }
  }, { class: "button is-primary" });
  openDialog(moments.length ? `Export ${plural(moments.length, "moment")}` : "Export what is found", h("div", { class: "dialog-fields" }, field("Format", format), h("p", { class: "form-buttons" }, save), problem));
}

function download({ name, text }) {
  const address = URL.createObjectURL(new Blob([text], { type: "application/octet-stream" }));
  const anchor = h("a", { href: address, download: name, hidden: true });
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
  window.setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
