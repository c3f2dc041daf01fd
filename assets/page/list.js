// Cards, labels and "show more": a press on any of them tells the page which; listeners stay while the list changes.
element.addEventListener("click", (event) => {
  const pressed = event.target.closest("[data-moment], [data-query], [data-more]");
  if (!pressed) return;
  if (pressed.dataset.moment) trigger("select", { moment: Number(pressed.dataset.moment) });
  else if (pressed.dataset.query) trigger("submit", { query: pressed.dataset.query });
  else trigger("change", { more: true });
});
element.addEventListener("error", (event) => {
  if (event.target.tagName === "IMG") event.target.style.visibility = "hidden"; // no frame could be made
}, true);
