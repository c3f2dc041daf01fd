// Addresses. Every state of the page is one: `?q=archery`, `?v=12&t=5000`, `?view=scan`. Back and Forward show an
// earlier state again without a load.

const DOUBLE_PRESS_MS = 500;
const DOUBLE_PRESS_PX = 8;
const listeners = new Set();
let count = window.history.state?.count ?? 0; // of the entries that this page made

// The parameters of the address; `view` is always set.
export function current() {
  return withView(Object.fromEntries(new URLSearchParams(window.location.search)));
}

function withView(parameters) {
  return { ...parameters, view: parameters.view ?? (parameters.v ? "watch" : "search") };
}

// The address of a state, for links; a parameter without a value is left out.
export function link(parameters) {
  const shown = { ...parameters };
  if (shown.view === withView({ ...shown, view: undefined }).view) delete shown.view;
  const pairs = Object.entries(shown).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const query = new URLSearchParams(pairs).toString();
  return query ? `?${query}` : window.location.pathname;
}

// Go to a state. With `replace` it takes the place of this one; otherwise Back returns here.
export function navigate(parameters, { replace = false } = {}) {
  const address = link(parameters);
  if (replace || address === link(current())) window.history.replaceState({ count }, "", address);
  else window.history.pushState({ count: ++count }, "", address);
  notify(false);
}

// Change parameters of this state; an empty value removes one.
export function update(changes, options) {
  navigate({ ...current(), ...changes }, options);
}

export function canGoBack() {
  return (window.history.state?.count ?? 0) > 0;
}

// `listener(parameters, isReturn)`: `isReturn` is true for Back and Forward.
export function onChange(listener) {
  listeners.add(listener);
}

function notify(isReturn) {
  const parameters = current();
  for (const listener of listeners) listener(parameters, isReturn);
}

window.history.scrollRestoration = "manual"; // each view knows its place
window.addEventListener("popstate", () => {
  count = window.history.state?.count ?? 0;
  notify(true);
});
// A press on a link of the page changes the state; with Ctrl, Shift or the middle button the browser opens it.
document.addEventListener("click", (event) => {
  const anchor = event.target.closest("a[href]");
  if (!anchor || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const url = new URL(anchor.href);
  if (url.origin !== window.location.origin || url.pathname !== window.location.pathname || anchor.target || anchor.hasAttribute("download")) return;
  event.preventDefault();
  const { view } = current();
  navigate(withView(Object.fromEntries(url.searchParams)));
  if (view !== current().view) opened = { at: performance.now(), x: event.clientX, y: event.clientY };
});

// The second press of a double press on a card would hit what the new view has at that place.
let opened = null;
for (const type of ["pointerdown", "mousedown", "click", "dblclick"]) {
  document.addEventListener(type, (event) => {
    if (!opened || performance.now() - opened.at > DOUBLE_PRESS_MS) return;
    if (Math.hypot(event.clientX - opened.x, event.clientY - opened.y) > DOUBLE_PRESS_PX) return;
    event.preventDefault();
    event.stopImmediatePropagation();
  }, { capture: true });
}
