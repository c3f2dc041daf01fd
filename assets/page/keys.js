// The keyboard: each shortcut does what a button does, and "?" lists them all.

import { h } from "./dom.js";

const groups = []; // [title, isActive, keys]

// `keys` are { key, code, description, run }: `key` as shown, `code` if the event's key differs from it.
export function addKeys(title, keys, isActive = () => true) {
  groups.push({ title, keys, isActive });
}

export function showKeys() {
  const lists = groups.map(({ title, keys }) => h("section", {}, h("h3", {}, title),
    h("dl", {}, keys.map(({ key, description }) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, description))))));
  const dialog = h("dialog", { class: "dialog keys-dialog", "aria-label": "Keys", onclose: () => dialog.remove() },
    h("h2", {}, "Keys"), h("div", { class: "key-lists" }, lists),
    h("form", { method: "dialog" }, h("button", { class: "button is-primary", autofocus: true }, "Close")));
  document.body.append(dialog);
  dialog.showModal();
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.altKey || document.querySelector("dialog[open]")) return;
  const isField = event.target.closest("input:not([type=range], [type=checkbox]), textarea, select, [contenteditable]");
  if (isField && event.key === "Escape") return event.target.blur();
  if (isField) return;
  const name = `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${event.shiftKey && event.key.length > 1 ? "Shift+" : ""}${event.key}`;
  if (event.key === " " && event.target.closest("button, a, summary, input")) return; // the space bar presses these
  if (event.key.startsWith("Arrow") && event.target.closest("input, [role=slider]")) return;
  for (const { keys, isActive } of groups.toReversed()) {
    if (!isActive()) continue;
    const shortcut = keys.find(({ key, code }) => (code ?? key) === name || (Array.isArray(code) && code.includes(name)));
    if (!shortcut) continue;
    if (shortcut.run() !== false) event.preventDefault();
    return;
  }
});
