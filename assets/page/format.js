// Times, sizes and numbers as people read them, and the colour of a label.

const HUES = 24; // label colours in style.css
const HUE_STEP = 7; // without a common factor, so that labels with ids near each other have colours far apart
const labelIds = new Map();

export function clock(ms) {
  const seconds = Math.floor(ms / 1000);
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60].map((n) => String(n).padStart(2, "0"));
  return parts[0] === "00" ? `${Number(parts[1])}:${parts[2]}` : `${Number(parts[0])}:${parts[1]}:${parts[2]}`;
}

// A time with tenths of a second, for the ends of tags.
export function preciseClock(ms) {
  const tenth = Math.floor((ms % 1000) / 100);
  return tenth ? `${clock(ms)}.${tenth}` : clock(ms);
}

// The end is rounded up, so that a moment of half a second has two different ends.
export function clockRange(startMs, endMs) {
  return `${clock(startMs)}–${clock(Math.ceil(endMs / 1000) * 1000)}`;
}

export function duration(seconds) {
  if (seconds < 59.5) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return seconds < 36000 ? `${(seconds / 3600).toFixed(1)} h` : `${count(Math.round(seconds / 3600))} h`;
}

export function size(bytes) {
  for (const unit of ["bytes", "kB", "MB", "GB"]) {
    if (bytes < 1000) return `${unit === "bytes" || bytes >= 10 ? Math.round(bytes) : bytes.toFixed(1)} ${unit}`;
    bytes /= 1000;
  }
  return `${bytes.toFixed(1)} TB`;
}

export function count(number) {
  return number.toLocaleString("en");
}

export function plural(number, noun) {
  return `${count(number)} ${number === 1 ? noun : `${noun}s`}`;
}

export function percent(share) {
  return `${Math.round(100 * share)}\u00a0%`;
}

export function day(timestamp) {
  const date = new Date(String(timestamp).replace(/^(\d{4})(\d{2})(\d{2})(?=$|T)/, "$1-$2-$3"));
  return Number.isNaN(date.getTime()) ? String(timestamp) : date.toLocaleDateString("en", { year: "numeric", month: "short", day: "numeric" });
}

export function minute(timestamp) {
  const date = new Date(timestamp);
  return Number.isNaN(date.getTime()) ? String(timestamp)
    : date.toLocaleString("en", { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}

// Tell the ids of the library's labels ({ name: id }), by which they have their colours.
export function knowLabels(ids) {
  for (const [name, id] of Object.entries(ids)) labelIds.set(name, id);
}

// The class of a label's colour, the same in every view; a text that is no label (yet) has one by its letters.
export function hueClass(label) {
  if (labelIds.has(label)) return `hue-${(HUE_STEP * labelIds.get(label)) % HUES}`;
  let hash = 2166136261;
  for (const character of label) hash = Math.imul(hash ^ character.codePointAt(0), 16777619);
  return `hue-${(hash >>> 0) % HUES}`;
}

export function quoteLabel(label) {
  return `"${label.replaceAll('"', " ")}"`;
}
