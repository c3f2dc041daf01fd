// What the server says of itself: jobs, the library's revision, what Undo and Redo would do. Read again and again.

import { get, inTurn, latestOnly, post } from "./api.js";
import { announce, showNotice, toast } from "./dom.js";

const FAST_MS = 1000; // while something runs
const SLOW_MS = 4000;
const GONE_AFTER = 2; // answers in a row that did not come
const listeners = new Set();
const ask = latestOnly();
// Each correction waits for the one before: a second "u" takes back another change, not the same one again.
const correct = inTurn();
let timer = 0;
let failures = 0;
let reading = null; // the latest question for the state

export let state = null;

// `listener(state, previous)` is called after every change, and at once if there is a state.
export function subscribe(listener) {
  listeners.add(listener);
  if (state) listener(state, null);
  return () => listeners.delete(listener);
}

// Read the state now; also called after everything that changes it. Resolves when the latest question is answered.
export function refresh() {
  return (reading = read());
}

async function read() {
  window.clearTimeout(timer);
  const isLatest = ask();
  try {
    const next = await get("state");
    if (!isLatest()) return reading;
    if (failures >= GONE_AFTER) document.dispatchEvent(new CustomEvent("answers-again"));
    failures = 0;
    showNotice("");
    const previous = state;
    state = next;
    if (JSON.stringify(previous) !== JSON.stringify(next)) for (const listener of listeners) listener(next, previous);
  } catch (error) {
    failures += 1;
    if (failures >= GONE_AFTER) showNotice(error.message);
  }
  window.clearTimeout(timer);
  timer = window.setTimeout(refresh, isBusy() && !document.hidden ? FAST_MS : SLOW_MS);
  return state;
}

export function isBusy() {
  const jobs = state?.jobs;
  return Boolean(jobs && (jobs.active.length || jobs.starting || jobs.waiting.length || jobs.activities.length));
}

document.addEventListener("visibilitychange", () => { if (!document.hidden && state) refresh(); });

// Change annotations: `path` below `annotations/`. The message has Undo, which names what it takes back.
export function annotate(path, body) {
  return correct(() => send(path, body));
}

// Without `change` the latest one, also if the page was not yet told of it.
export function undo(change = null) {
  return correct(() => attempt("undo", () => change ?? state?.undo?.id, "There is nothing to undo."));
}

export function redo(change = null) {
  return correct(() => attempt("redo", () => change ?? state?.redo?.id, "There is nothing to do again."));
}

async function send(path, body) {
  const change = await post(`annotations/${path}`, body);
  const refreshed = refresh();
  announce(change.message);
  toast(sentence(change.message), change.id && path !== "undo" ? { action: { caption: "Undo", run: () => undo(change.id) } } : {});
  await refreshed;
  document.dispatchEvent(new CustomEvent("annotations-changed"));
  return change;
}

async function attempt(action, findChange, nothing) {
  await reading;
  const change = findChange();
  if (!change) return toast(nothing);
  try {
    await send(action, { change });
  } catch (error) {
    toast(error.message, { isError: true });
    await refresh();
  }
}

function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}
