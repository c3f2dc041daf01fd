// The keyboard shortcuts of the page, listed by "?". Each does what a button does.
() => {
  const visible = (selector) => [...document.querySelectorAll(selector)].find((element) => element.offsetParent !== null);
  const video = () => visible("#vtag-watch video");
  const press = (selector) => visible(selector)?.click();
  const pressSelected = (action) =>
    (visible(`.vtag-tag.vtag-selected [data-do=${action}]`) ?? visible(`.vtag-tag [data-do=${action}]`))?.click();
  const openTab = (name) =>
    [...document.querySelectorAll("[role=tab]")].find((tab) => tab.textContent.trim() === name)?.click();

  function selectTag(direction) { // 1 or -1
    const tags = [...document.querySelectorAll(".vtag-tag")];
    const current = tags.findIndex((tag) => tag.classList.contains("vtag-selected"));
    const next = tags[Math.min(tags.length - 1, Math.max(0, current + direction))]?.querySelector(".vtag-tag-name");
    if (next) { next.click(); next.focus(); }
  }

  function focusCard(direction) {
    const cards = [...document.querySelectorAll(".vtag-card")].filter((card) => card.offsetParent !== null);
    const current = cards.indexOf(document.activeElement);
    cards[Math.min(cards.length - 1, Math.max(0, current + direction))]?.focus();
  }

  // key as shown, description, whether it needs a video, action, and the key of the event if it differs
  const KEYS = [
    ["/", "search", false, () => { openTab("Search"); setTimeout(() => visible("#vtag-query input, #vtag-query textarea")?.focus(), 50); }],
    ["Escape", "back to the results", true, () => openTab("Search")],
    ["→", "next card", false, () => focusCard(1), "ArrowRight"],
    ["←", "previous card", false, () => focusCard(-1), "ArrowLeft"],
    ["Space", "play or pause", true, () => (video().paused ? video().play() : video().pause()), " "],
    ["j", "five seconds back", true, () => { video().currentTime -= 5; }],
    ["l", "five seconds forward", true, () => { video().currentTime += 5; }],
    [",", "a frame back", true, () => { video().pause(); video().currentTime -= 1 / 25; }],
    [".", "a frame forward", true, () => { video().pause(); video().currentTime += 1 / 25; }],
    ["n", "next moment", true, () => selectTag(1)],
    ["p", "previous moment", true, () => selectTag(-1)],
    ["y", "yes: the selected moment is right", true, () => pressSelected("confirm")],
    ["x", "no: the selected moment is wrong", true, () => pressSelected("reject")],
    ["r", "rename the selected moment", true, () => pressSelected("rename")],
    ["m", "more like the selected moment", true, () => pressSelected("similar")],
    ["s", "more like what is shown now", true, () => press(".vtag-timeline [data-do=like]")],
    ["a", "add a tag", true, () => visible(".vtag-add [name=label]")?.focus()],
    ["[", "the new tag begins here", true, () => press(".vtag-add [data-do=from]")],
    ["]", "the new tag ends here", true, () => press(".vtag-add [data-do=to]")],
    ["u", "undo the last correction", true, () => press(".vtag-tag-panel [data-do=undo]")],
    ["c", "the curve of a label", true, () => visible(".vtag-timeline [name=label]")?.focus()],
    ["?", "these keys", false, () => help()],
  ];

  function help() {
    let dialog = document.querySelector(".vtag-keys");
    if (!dialog) {
      dialog = document.createElement("dialog");
      dialog.className = "vtag-dialog vtag-keys";
      dialog.setAttribute("aria-label", "Keys");
      const rows = KEYS.map(([key, description]) => `<div><dt><kbd>${key}</kbd></dt><dd>${description}</dd></div>`).join("");
      dialog.innerHTML = `<h2>Keys</h2><dl>${rows}</dl><form method="dialog"><button class="vtag-button" autofocus>Close</button></form>`;
      document.body.append(dialog);
    }
    dialog.showModal();
  }

  // A list that is replaced loses the keyboard focus. It is given back to the button of the same name.
  let focused = null;
  document.addEventListener("focusin", ({ target }) => {
    const list = target.matches("button[data-do][aria-label]:focus-visible") && target.closest("[id^=vtag-]");
    focused = list ? { list, action: target.dataset.do, name: target.ariaLabel } : null;
  });
  document.addEventListener("pointerdown", () => { focused = null; });
  new MutationObserver(() => {
    if (!focused || document.activeElement !== document.body) return;
    const { list, action, name } = focused;
    [...list.querySelectorAll(`button[data-do=${action}]`)].find((button) => button.ariaLabel === name)?.focus({ preventScroll: true });
  }).observe(document.body, { childList: true, subtree: true });

  document.addEventListener("vtag-help", help);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]")) return;
    const field = event.target.closest("input:not([type=range]), textarea, select, [contenteditable]");
    if (field) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const shortcut = KEYS.find(([key, , , , code]) => (code ?? key) === event.key);
    if (!shortcut) return;
    const [, , needsVideo, action] = shortcut;
    if (needsVideo && !video()) return;
    if (event.key === " " && event.target.closest("button, a, summary, video")) return; // the space bar presses these
    if (event.key.startsWith("Arrow") && event.target.closest("[role=tab], [role=slider], input, video")) return;
    event.preventDefault();
    action();
  });
  window.addEventListener("popstate", () => window.location.reload());
  if (window.innerWidth < 700) { // on a phone, open filters would hide the results
    const close = (tries) => {
      const filters = document.querySelector("#vtag-filters > button, #vtag-filters .label-wrap");
      if (filters) { if (filters.classList.contains("open")) filters.click(); }
      else if (tries) setTimeout(() => close(tries - 1), 100);
    };
    close(50);
  }
}
