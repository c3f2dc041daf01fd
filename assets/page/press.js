// A press on a button or link is a click only if the element is still there at its release. What the server answers
// is therefore shown after the release.

const PRESSABLE = "a, button, label, summary, [type=checkbox], [type=radio]";
const LONGEST_MS = 2000; // if the release never comes: a menu of the browser may keep it
let pendingRelease = null; // a promise, while something is pressed

document.addEventListener("pointerdown", (event) => {
  if (event.button || !event.target.closest?.(PRESSABLE)) return;
  const ends = new AbortController();
  pendingRelease = new Promise((resolve) => {
    const release = () => {
      ends.abort();
      window.clearTimeout(longest);
      window.setTimeout(() => { pendingRelease = null; resolve(); }); // after the click that follows
    };
    const longest = window.setTimeout(release, LONGEST_MS);
    for (const end of ["pointerup", "pointercancel", "blur"]) window.addEventListener(end, release, { capture: true, signal: ends.signal });
  });
}, { capture: true });

// Resolves when nothing is pressed.
export async function waitForRelease() {
  while (pendingRelease) await pendingRelease;
}
