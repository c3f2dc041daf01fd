// A press on a button or link is a click only if the element is still there at its release. What the server answers
// is therefore shown after the release.

const PRESSABLE = "a, button, label, select, summary, input";
let pressed = null; // a promise of the release, while something is pressed

document.addEventListener("pointerdown", (event) => {
  if (!event.target.closest?.(PRESSABLE)) return;
  const ends = new AbortController();
  pressed = new Promise((resolve) => {
    const release = () => {
      ends.abort();
      window.setTimeout(() => { pressed = null; resolve(); }); // after the click that follows
    };
    for (const end of ["pointerup", "pointercancel", "blur"]) window.addEventListener(end, release, { capture: true, signal: ends.signal });
  });
}, { capture: true });

// Resolves when nothing is pressed.
export async function released() {
  while (pressed) await pressed;
}
