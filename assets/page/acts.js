// Any list of the page: a press on what carries data-do (or data-query) tells the page which, with all that it carries.
// Listeners stay while the content changes. The names that may be told (Gradio reads them here):
// "open" "similar" "query" "more" "scan" "end" "pause" "resume" "withdraw" "go" "take" "pull" "stop" "yes" "no" "teach" "retitle" "drop"
element.addEventListener("click", (event) => {
  const pressed = event.target.closest("button[data-do], button[data-query]");
  if (!pressed || !element.contains(pressed)) return;
  if (pressed.dataset.do === "similar") window.scrollTo({ top: 0 }); // there is another list now
  trigger(pressed.dataset.query ? "query" : pressed.dataset.do, { ...pressed.dataset });
});
element.addEventListener("submit", (event) => {
  event.preventDefault();
  trigger(event.target.dataset.do, { ...event.target.dataset, ...Object.fromEntries(new FormData(event.target)) });
});
element.addEventListener("error", (event) => {
  if (event.target.tagName === "IMG") event.target.style.visibility = "hidden"; // no frame could be made
}, true);
