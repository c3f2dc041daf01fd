// The keys of the whole page, shown on "?": they press what can be pressed with a mouse, and nothing else.
() => {
  const shown = (selector) => [...document.querySelectorAll(selector)].find((each) => each.offsetParent !== null);
  const video = () => shown("#vtag-watch video");
  const press = (selector) => shown(selector)?.click();
  const chosen = (what) => (shown(`.vtag-tag.vtag-chosen [data-do=${what}]`) ?? shown(`.vtag-tag [data-do=${what}]`))?.click();
  const tab = (name) => [...document.querySelectorAll("[role=tab]")].find((each) => each.textContent.trim() === name)?.click();

  function step(direction) {
    const bars = [...document.querySelectorAll(".vtag-tag")];
    const at = bars.findIndex((each) => each.classList.contains("vtag-chosen"));
    const next = bars[Math.min(bars.length - 1, Math.max(0, at + direction))]?.querySelector(".vtag-tag-name");
    if (next) { next.click(); next.focus(); }
  }

  function card(direction) {
    const cards = [...document.querySelectorAll(".vtag-card")].filter((each) => each.offsetParent !== null);
    const at = cards.indexOf(document.activeElement);
    cards[Math.min(cards.length - 1, Math.max(0, at + direction))]?.focus();
  }

  const KEYS = [
    ["/", "search", false, () => { tab("Search"); setTimeout(() => shown("#vtag-query input, #vtag-query textarea")?.focus(), 50); }],
    ["Escape", "back to the results", true, () => tab("Search")],
    ["→", "next card", false, () => card(1), "ArrowRight"],
    ["←", "card before", false, () => card(-1), "ArrowLeft"],
    ["Space", "play or pause", true, () => (video().paused ? video().play() : video().pause()), " "],
    ["j", "five seconds back", true, () => { video().currentTime -= 5; }],
    ["l", "five seconds on", true, () => { video().currentTime += 5; }],
    [",", "a frame back", true, () => { video().pause(); video().currentTime -= 1 / 25; }],
    [".", "a frame on", true, () => { video().pause(); video().currentTime += 1 / 25; }],
    ["n", "next moment", true, () => step(1)],
    ["p", "moment before", true, () => step(-1)],
    ["y", "yes: the chosen moment is right", true, () => chosen("confirm")],
    ["x", "no: the chosen moment is wrong", true, () => chosen("reject")],
    ["r", "rename the chosen moment", true, () => chosen("rename")],
    ["m", "more like the chosen moment", true, () => chosen("similar")],
    ["s", "more like what is shown now", true, () => press(".vtag-timeline [data-do=like]")],
    ["a", "add a tag", true, () => shown(".vtag-add [name=label]")?.focus()],
    ["[", "the new tag begins here", true, () => press(".vtag-add [data-do=from]")],
    ["]", "the new tag ends here", true, () => press(".vtag-add [data-do=to]")],
    ["u", "undo the last correction", true, () => press(".vtag-said [data-do=undo]")],
    ["c", "the curve of a label", true, () => shown(".vtag-timeline [name=label]")?.focus()],
    ["?", "these keys", false, () => help()],
  ];

  function help() {
    let dialog = document.querySelector(".vtag-keys");
    if (!dialog) {
      dialog = document.createElement("dialog");
      dialog.className = "vtag-dialog vtag-keys";
      dialog.setAttribute("aria-label", "Keys");
      const rows = KEYS.map(([key, what]) => `<div><dt><kbd>${key}</kbd></dt><dd>${what}</dd></div>`).join("");
      dialog.innerHTML = `<h2>Keys</h2><dl>${rows}</dl><form method="dialog"><button class="vtag-button" autofocus>Close</button></form>`;
      document.body.append(dialog);
    }
    dialog.showModal();
  }

  // lists are drawn anew, also while somebody stands in them with the keyboard: the focus goes back to the same button
  let stood = null;
  document.addEventListener("focusin", ({ target }) => {
    const list = target.matches("button[data-do][aria-label]:focus-visible") && target.closest("[id^=vtag-]");
    stood = list ? { list, what: target.dataset.do, name: target.ariaLabel } : null;
  });
  document.addEventListener("pointerdown", () => { stood = null; });
  new MutationObserver(() => {
    if (!stood || document.activeElement !== document.body) return;
    const { list, what, name } = stood;
    [...list.querySelectorAll(`button[data-do=${what}]`)].find((each) => each.ariaLabel === name)?.focus({ preventScroll: true });
  }).observe(document.body, { childList: true, subtree: true });

  document.addEventListener("vtag-help", help);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]")) return;
    const typing = event.target.closest("input:not([type=range]), textarea, select, [contenteditable]");
    if (typing) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const known = KEYS.find(([key, , , , code]) => (code ?? key) === event.key);
    if (!known || (known[2] && !video())) return;
    if (event.key === " " && event.target.closest("button, a, summary, video")) return; // it presses those
    if (event.key.startsWith("Arrow") && event.target.closest("[role=tab], [role=slider], input, video")) return;
    event.preventDefault();
    known[3]();
  });
  window.addEventListener("popstate", () => window.location.reload());
  if (window.innerWidth < 700) { // filters would push the results out of sight
    const close = (tries) => {
      const filters = document.querySelector("#vtag-filters > button, #vtag-filters .label-wrap");
      if (filters) { if (filters.classList.contains("open")) filters.click(); }
      else if (tries) setTimeout(() => close(tries - 1), 100);
    };
    close(50);
  }
}
