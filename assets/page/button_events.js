// For any list: a press on a button with data-do (or data-query) triggers the event of that name with the button's data.
// The listeners are on the component, so they stay when its content is replaced. Gradio finds the names of the events
// by reading them here:
// "open" "similar" "query" "more" "scan" "end" "pause" "resume" "withdraw" "go" "take" "pull" "stop" "yes" "no" "teach" "retitle" "drop"
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-do], button[data-query]");
  if (!button || !element.contains(button)) return;
  if (button.dataset.do === "similar") window.scrollTo({ top: 0 }); // another list replaces this one
  trigger(button.dataset.query ? "query" : button.dataset.do, { ...button.dataset });
});
element.addEventListener("submit", (event) => {
  event.preventDefault();
  trigger(event.target.dataset.do, { ...event.target.dataset, ...Object.fromEntries(new FormData(event.target)) });
});
element.addEventListener("error", (event) => {
  if (event.target.tagName === "IMG") event.target.style.visibility = "hidden"; // there is no picture of this frame
}, true);
