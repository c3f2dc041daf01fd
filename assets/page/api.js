// Asks the server. Every failure is an ApiError whose message is a sentence for the person.

import { waitForRelease } from "./press.js";

export class ApiError extends Error {
  constructor(message, { status = 0, field = "" } = {}) {
    super(message.replace(/^(?!vtag )[a-z]+(?=[ ,:])/, (word) => `${word[0].toUpperCase()}${word.slice(1)}`)); // not a file's name
    this.status = status;
    this.field = field; // of a form, if the error is about one
  }
}

const UNREACHABLE = "vtag does not answer. Start it again with “vtag ui”: this page then goes on by itself.";

async function answer(request) {
  let response;
  try {
    response = await request;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(UNREACHABLE);
  }
  if (response.ok) {
    const body = await response.json();
    await waitForRelease();
    return body;
  }
  if (response.status === 401) window.location.assign(`login${window.location.search}`); // which leads back here
  const text = await response.text();
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    body = { error: text.trim() };
  }
  const reason = body.error ?? body.detail ?? `the server answered with ${response.status}`;
  throw new ApiError(String(reason), { status: response.status, field: body.field ?? "" });
}

// For questions of which only the latest counts: `const isLatest = ask();` before, and `isLatest()` after the answer.
export function latestOnly() {
  let number = 0;
  return () => {
    const own = (number += 1);
    return () => own === number;
  };
}

// For changes that must reach the server in their order: `const queue = inTurn();`, then `queue(run)` calls each `run` when
// the one before has ended, whether or not it failed. Resolves to what `run` returns.
export function inTurn() {
  let last = Promise.resolve();
  return (run) => {
    const done = last.then(run);
    last = done.catch(() => {});
    return done;
  };
}

export function queryString(parameters) {
  const pairs = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return new URLSearchParams(pairs).toString();
}

export function get(path, parameters = {}, { signal } = {}) {
  const query = queryString(parameters);
  return answer(fetch(`api/${path}${query ? `?${query}` : ""}`, { signal }));
}

export function post(path, body = {}) {
  return answer(fetch(`api/${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  }));
}

// Work that takes seconds or more, in Gradio's queue. `onProgress` gets each value that the function yields;
// the last one is returned. An object with the key "error" becomes an ApiError.
export async function long(name, body = {}, { onProgress = () => {}, signal } = {}) {
  const call = `long/gradio_api/call/${name}`;
  const { event_id: id } = await answer(fetch(call, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ data: [body] }),
    signal,
  }));
  let stream;
  try {
    stream = await fetch(`${call}/${id}`, { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(UNREACHABLE);
  }
  let last = null;
  for await (const { event, data } of serverEvents(stream.body)) {
    if (event === "error") throw new ApiError(typeof data === "string" ? data : "this failed: the terminal of vtag says why");
    if (event !== "generating" && event !== "complete") continue;
    const value = data?.[0];
    await waitForRelease();
    if (value?.error) throw new ApiError(value.error, { field: value.field ?? "" });
    if (value !== undefined && value !== null) last = value;
    if (event === "complete") return last;
    onProgress(value);
  }
  throw new ApiError(UNREACHABLE);
}

async function* serverEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const lines = text.slice(0, end).split("\n");
      text = text.slice(end + 2);
      const event = lines.find((line) => line.startsWith("event: "))?.slice(7) ?? "";
      const data = lines.find((line) => line.startsWith("data: "))?.slice(6) ?? "null";
      yield { event, data: JSON.parse(data) };
    }
  }
}
