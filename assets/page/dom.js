// Builds elements. Text goes into the page as text only: what a stranger wrote can never become HTML.

// An element with properties, listeners ("onclick"), data ({ data: { id: 1 } }) and children; null children are left out.
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) setProperty(element, name, value);
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function setProperty(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "data") Object.assign(element.dataset, value);
  else if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
  else if (name === "class") element.className = value;
  else if (value === true) element.setAttribute(name, "");
  else element.setAttribute(name, value);
}

export function replace(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// A button with a text, or with an icon and a name.
export function button(caption, onclick, properties = {}) {
  return h("button", { type: "button", class: "button", onclick, ...properties }, caption);
}

export function iconButton(icon, name, onclick, properties = {}) {
  return h("button", { type: "button", class: "icon-button", "aria-label": name, title: name, onclick, ...properties }, icon);
}

// A field with its name above it; a sentence about what is wrong stands below it.
export function field(name, input, properties = {}) {
  input.id ||= `field-${++fieldCount}`;
  const problem = h("span", { class: "field-problem", id: `${input.id}-problem` });
  const element = h("div", { class: "field", ...properties }, h("label", { for: input.id }, name), input, problem);
  element.showProblem = (sentence) => {
    problem.textContent = sentence ?? "";
    input.setAttribute("aria-invalid", sentence ? "true" : "false");
    if (sentence) input.setAttribute("aria-describedby", problem.id);
    else input.removeAttribute("aria-describedby");
  };
  return element;
}
let fieldCount = 0;

export function select(options, value, onchange, properties = {}) {
  const element = h("select", { onchange: () => onchange(element.value), ...properties },
    options.map(([key, caption]) => h("option", { value: key }, caption)));
  element.value = value;
  return element;
}

const status = h("div", { class: "visually-hidden", role: "status", "aria-live": "polite" });
const toasts = h("div", { class: "toasts", role: "region", "aria-label": "Messages" });

const TOAST_MS = 6000; // as long as a message stays, or longer under the pointer

// Says a sentence to screen readers.
export function announce(sentence) {
  status.textContent = sentence;
}

// Shows a message at the bottom for some seconds, with at most one action.
export function toast(sentence, { action = null, isError = false } = {}) {
  const element = h("div", { class: isError ? "toast is-error" : "toast", role: isError ? "alert" : "status" },
    h("span", {}, sentence),
    action && button(action.caption, () => { element.remove(); action.run(); }, { class: "button is-quiet" }),
    iconButton("×", "Close this message", () => element.remove()));
  while (toasts.childElementCount > 2) toasts.firstElementChild.remove();
  toasts.append(element);
  const end = () => {
    if (element.matches(":hover, :focus-within")) setTimeout(end, TOAST_MS);
    else element.remove();
  };
  setTimeout(end, isError ? 2 * TOAST_MS : TOAST_MS);
}

// A dialog with a form. `submit(values)` may throw; the sentence of its error is shown in the dialog, which stays open.
export function formDialog(title, content, { submitCaption = "OK", isDangerous = false, submit }) {
  const returnTo = document.activeElement;
  const problem = h("p", { class: "problem", role: "alert" });
  const send = h("button", { class: isDangerous ? "button is-dangerous" : "button is-primary" }, submitCaption);
  const form = h("form", { method: "dialog" }, h("h2", {}, title), ...content, problem,
    h("div", { class: "dialog-buttons" }, button("Cancel", () => dialog.close()), send));
  const dialog = h("dialog", { class: "dialog", "aria-label": title, onclose: () => { dialog.remove(); returnTo?.focus?.(); } }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    problem.textContent = "";
    send.disabled = true;
    try {
      await submit(Object.fromEntries(new FormData(form)));
      dialog.close();
    } catch (error) {
      if (dialog.open) problem.textContent = error.message;
      else toast(`${title}: ${error.message}`, { isError: true }); // it was closed meanwhile
    } finally {
      send.disabled = false;
    }
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

const notice = h("p", { class: "notice problem", role: "alert" });

// Says what is wrong with the whole page, below its bar, until it is over: then with an empty text.
export function showNotice(sentence) {
  if (notice.textContent !== sentence) notice.textContent = sentence;
}

export function noticeRegion() {
  return notice;
}

export function messageRegions() {
  return [status, toasts];
}
