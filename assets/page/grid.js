// A grid of cards that scrolls with the page. Only the cards near the screen exist, so 100,000 are as quick as 100.

import { h } from "./dom.js";

const PAGE = 100; // items that are loaded at once
const OVERSCAN_PX = 600; // above and below the screen
const HEADING_PX = 44;

// The items of one list, loaded page by page as they are needed. It also keeps its place, so that Back returns there.
export class Source {
  // `load(offset, limit)` resolves to { items, has_more } or { items, total }; `sections` ([{ title, count }]) may be
  // known from the start, or `groupOf(item)` names the section of each item, which then arrive in their order.
  constructor(load, { sections = null, groupOf = null } = {}) {
    this.load = load;
    this.fixedSections = sections;
    this.groupOf = groupOf;
    this.pages = new Map();
    this.total = sections ? sections.reduce((sum, section) => sum + section.count, 0) : null;
    this.isComplete = Boolean(sections);
    this.scrollY = 0;
    this.activeIndex = 0;
    this.failure = null;
    this.first = {}; // what came with the first page
    this.round = 0; // so many changes were read
  }

  item(index) {
    return this.pages.get(Math.floor(index / PAGE))?.[index % PAGE];
  }

  // Every item that is loaded.
  items() {
    return [...this.pages.values()].filter(Array.isArray).flat();
  }

  // Resolves when the item at `index` is loaded, also if it is being loaded already.
  async ensure(index) {
    const page = Math.floor(index / PAGE);
    if (!this.pages.has(page)) this.pages.set(page, this.fill(page));
    return this.pages.get(page);
  }

  async fill(page) {
    for (;;) {
      const { round } = this;
      try {
        const items = await this.read(page);
        if (round !== this.round) continue; // it was read before a change
        this.pages.set(page, items);
        return items;
      } catch (error) {
        this.pages.delete(page);
        throw error;
      }
    }
  }

  // Read again what is loaded, after a change. False if another change came meanwhile, which then reads it all.
  async renew() {
    const round = (this.round += 1);
    const renewed = [];
    for (const [page] of [...this.pages].filter(([, items]) => Array.isArray(items))) {
      renewed.push([page, await this.read(page)]);
      if (round !== this.round) return false;
    }
    for (const [page, items] of renewed) this.pages.set(page, items);
    return true;
  }

  async read(page) {
    const answer = await this.load(page * PAGE, PAGE);
    if (page === 0) this.first = answer;
    if (answer.total !== undefined) {
      this.total = answer.total;
      this.isComplete = true;
    } else if (answer.has_more) {
      this.total = Math.max(this.total ?? 0, (page + 2) * PAGE);
    } else {
      this.total = page * PAGE + answer.items.length;
      this.isComplete = true;
    }
    return answer.items;
  }

  sections() {
    if (this.fixedSections) return this.fixedSections;
    if (!this.groupOf) return [{ title: "", count: this.total ?? 0 }];
    const sections = [];
    let index = 0;
    for (; index < (this.total ?? 0); index += 1) {
      const item = this.item(index);
      if (!item) break;
      const title = this.groupOf(item);
      if (sections.at(-1)?.title !== title) sections.push({ title, count: 0 });
      sections.at(-1).count += 1;
    }
    const rest = (this.total ?? 0) - index;
    if (rest > 0) sections.push({ title: "", count: rest });
    return sections;
  }
}

export class VirtualGrid {
  // `render(item, index)` makes the card of an item, an element with one link; `name` is the list's accessible name.
  constructor({ name, render, onChange = () => {}, minimumWidth = 184, captionHeight = 50, picture = 9 / 16 }) {
    Object.assign(this, { render, onChange, minimumWidth, captionHeight, picture });
    this.element = h("div", { class: "grid", role: "list", "aria-label": name });
    this.cards = new Map(); // by index
    this.headings = new Map(); // by section
    this.source = null;
    window.addEventListener("scroll", () => this.schedule(), { passive: true });
    new ResizeObserver(() => { if (this.element.clientWidth && this.element.clientWidth !== this.width) this.layOut(); }).observe(this.element);
    this.element.addEventListener("keydown", (event) => this.move(event));
    this.element.addEventListener("focusin", (event) => {
      const card = event.target.closest("[data-index]");
      if (card) this.activate(Number(card.dataset.index));
    });
  }

  // Show another list; one that was shown before returns to its place. With `isSameList` it is the list that is shown,
  // read anew: the focus stays on its card.
  async show(source, { isSameList = false } = {}) {
    this.source = source;
    this.setBusy(source.total === null);
    if (source.total === null || !isSameList) this.clear();
    if (source.total === null) {
      source.failure = null;
      await this.fetch(0);
      if (this.source !== source) return;
      this.setBusy(false);
    }
    this.layOut();
  }

  // Whether the list that was asked for is on its way.
  setBusy(isBusy) {
    this.element.setAttribute("aria-busy", String(isBusy));
  }

  clear() {
    this.cards.clear();
    this.headings.clear();
    this.element.replaceChildren();
  }

  // Draw every card again, for example after a selection or a correction.
  redraw() {
    const focused = this.focusedIndex();
    for (const card of this.cards.values()) card.remove();
    this.cards.clear();
    this.draw();
    if (focused !== null) this.focusCard(focused);
  }

  layOut() {
    const width = this.element.clientWidth;
    if (!this.source || !width) return;
    const focused = this.focusedIndex();
    this.width = width;
    this.gap = width < 600 ? 10 : 14;
    this.columns = Math.max(width < 600 ? 2 : 1, Math.floor((width + this.gap) / (this.minimumWidth + this.gap)));
    this.cardWidth = (width - this.gap * (this.columns - 1)) / this.columns;
    this.rowHeight = Math.round(this.cardWidth * this.picture) + this.captionHeight + this.gap;
    this.blocks = [];
    let top = 0;
    let first = 0;
    for (const section of this.source.sections()) {
      const rows = Math.ceil(section.count / this.columns);
      const heading = section.title ? HEADING_PX : 0;
      this.blocks.push({ title: section.title, count: section.count, first, top, bodyTop: top + heading });
      top += heading + rows * this.rowHeight;
      first += section.count;
    }
    this.element.style.height = `${top}px`;
    this.clear();
    this.draw();
    if (focused === null) return;
    if (this.cards.has(focused)) this.focusDrawn(focused);
    else this.focusCard(Math.min(focused, Math.max(0, (this.source.total ?? 1) - 1)));
  }

  focusedIndex() {
    const card = this.element.contains(document.activeElement) ? document.activeElement.closest("[data-index]") : null;
    return card ? Number(card.dataset.index) : null;
  }

  schedule() {
    if (this.frame || !this.element.offsetParent) return;
    this.frame = requestAnimationFrame(() => { this.frame = 0; this.draw(); });
  }

  draw() {
    if (!this.source || !this.blocks) return;
    const offset = this.element.getBoundingClientRect().top;
    const from = -offset - OVERSCAN_PX;
    const to = -offset + window.innerHeight + OVERSCAN_PX;
    const wanted = new Set();
    const missing = new Set();
    for (const [number, block] of this.blocks.entries()) {
      const rows = Math.ceil(block.count / this.columns);
      if (block.bodyTop + rows * this.rowHeight < from || block.top > to) continue;
      if (block.title) this.drawHeading(number, block);
      const firstRow = Math.max(0, Math.floor((from - block.bodyTop) / this.rowHeight));
      const lastRow = Math.min(rows - 1, Math.floor((to - block.bodyTop) / this.rowHeight));
      for (let place = firstRow * this.columns; place < Math.min(block.count, (lastRow + 1) * this.columns); place += 1) {
        const index = block.first + place;
        wanted.add(index);
        if (!this.source.pages.has(Math.floor(index / PAGE))) missing.add(Math.floor(index / PAGE));
        this.drawCard(index, block, place);
      }
    }
    for (const [index, card] of this.cards) {
      if (!wanted.has(index) && !card.contains(document.activeElement)) {
        card.remove();
        this.cards.delete(index);
      }
    }
    for (const page of missing) this.fetch(page * PAGE);
  }

  drawHeading(number, block) {
    if (this.headings.has(number)) return;
    const heading = h("h3", { class: "grid-heading", role: "presentation" }, h("span", {}, block.title));
    heading.style.transform = `translateY(${block.top}px)`;
    this.headings.set(number, heading);
    this.element.append(heading);
  }

  drawCard(index, block, place) {
    const item = this.source.item(index);
    const current = this.cards.get(index);
    if (current && (current.dataset.empty !== "" || item === undefined)) return;
    const hadFocus = current?.contains(document.activeElement);
    current?.remove();
    const card = item === undefined ? h("div", { class: "card is-empty", tabindex: "-1", "aria-label": "This card is being loaded", data: { empty: "" } }) : this.render(item, index);
    card.setAttribute("role", "listitem");
    card.dataset.index = index;
    if (this.source.isComplete) card.setAttribute("aria-setsize", this.source.total);
    card.setAttribute("aria-posinset", index + 1);
    card.style.width = `${this.cardWidth}px`;
    card.style.height = `${this.rowHeight - this.gap}px`;
    const x = (place % this.columns) * (this.cardWidth + this.gap);
    const y = block.bodyTop + Math.floor(place / this.columns) * this.rowHeight;
    card.style.transform = `translate(${x}px, ${y}px)`;
    const link = card.querySelector("a");
    if (link) link.tabIndex = index === this.source.activeIndex ? 0 : -1;
    this.cards.set(index, card);
    // in the order of the list, so that a screen reader reads them so
    const next = [...this.element.querySelectorAll("[data-index]")].find((other) => Number(other.dataset.index) > index);
    this.element.insertBefore(card, next ?? null);
    if (hadFocus) this.focusDrawn(index);
  }

  async fetch(index) {
    const source = this.source;
    const before = source.total;
    try {
      await source.ensure(index);
      source.failure = null;
    } catch (error) {
      source.failure = error;
      if (error.name === "AbortError") return;
    }
    if (source !== this.source) return;
    this.onChange(source);
    if (before !== null && !source.failure) { // after a failure, scrolling asks again
      if (before !== source.total || source.groupOf) this.layOut();
      else this.draw();
    }
  }

  activate(index) {
    const before = this.cards.get(this.source.activeIndex)?.querySelector("a");
    if (before) before.tabIndex = -1;
    this.source.activeIndex = index;
    const link = this.cards.get(index)?.querySelector("a");
    if (link) link.tabIndex = 0;
  }

  move(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns, Home: -Infinity, End: Infinity };
    if (!(event.key in steps) || !event.target.closest("[data-index]")) return;
    event.preventDefault();
    event.stopPropagation();
    const last = (this.source.total ?? 1) - 1;
    this.focusCard(Math.min(last, Math.max(0, this.source.activeIndex + steps[event.key])));
  }

  // Put the focus on a card, scrolled into the screen if it `isMoved` there. One that is not loaded has the focus all
  // the same, so that the next key goes on from there.
  focusCard(index, { isMoved = true } = {}) {
    const block = this.blocks?.find((each) => index < each.first + each.count);
    if (!block) return;
    const top = block.bodyTop + Math.floor((index - block.first) / this.columns) * this.rowHeight + this.element.getBoundingClientRect().top;
    const bar = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--bar-height")) + 60;
    if (isMoved && top < bar) window.scrollBy(0, top - bar);
    else if (isMoved && top + this.rowHeight > window.innerHeight) window.scrollBy(0, top + this.rowHeight - window.innerHeight);
    this.activate(index);
    this.draw();
    this.focusDrawn(index);
  }

  focusDrawn(index) {
    const card = this.cards.get(index);
    (card?.querySelector("a") ?? card)?.focus({ preventScroll: true });
  }
}
