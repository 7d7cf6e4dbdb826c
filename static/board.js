/** Where the cards stand: a row is a moment; turns that ran at the same time stand side by side in it. */

import { el } from "./dom.js";

const NEAR_END_PX = 96;

export class Board {
  #root;
  #row = null;
  #rows = [];
  #running = 0;
  #following = true;
  #lastY = 0;

  /** @param {HTMLElement} root */
  constructor(root) {
    this.#root = root;
    addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#follow()).observe(root);
  }

  /** The turns' ids, row by row, since the last divider. */
  get rows() {
    return this.#rows;
  }

  /** Adds a card: beside those that run, else in a row of its own. */
  add(card) {
    if (!this.#row || (this.#running === 0 && this.#row.childElementCount > 0)) this.startRow();
    this.#row.append(card.node);
    this.#rows.at(-1).push(card.id);
    this.#row.dataset.count = String(this.#row.childElementCount);
    this.#running++;
    this.#following = true;
    this.#follow();
    void card.finished.then(() => this.#running--);
  }

  /** Takes a card away whose turn is kept no longer. */
  remove(card) {
    const row = card.node.parentElement;
    card.node.remove();
    row.dataset.count = String(row.childElementCount);
    this.#rows = this.#rows.map((ids) => ids.filter((id) => id !== card.id)).filter((ids) => ids.length > 0);
    if (row.childElementCount === 0) row.remove();
    if (row === this.#row && row.childElementCount === 0) this.#row = null;
  }

  startRow() {
    this.#row = el("div", { class: "row" });
    this.#rows.push([]);
    this.#root.append(this.#row);
  }

  /** From here on the context is empty: the next card begins a row under a line that says so. */
  divide(label) {
    if (!this.#row) return;
    this.#row = null;
    this.#rows = [];
    if (this.#root.lastElementChild?.matches(".divider")) return;
    this.#root.append(el("p", { class: "divider" }, el("span", { text: label })));
  }

  /** Only a person scrolls up; text that grows just moves the end away. */
  #scrolled() {
    if (distanceToEnd() < NEAR_END_PX) this.#following = true;
    else if (scrollY < this.#lastY) this.#following = false;
    this.#lastY = scrollY;
  }

  /** Stays at the end while a person reads there; never pulls back one who has scrolled up. */
  #follow() {
    if (this.#following) scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
  }
}

function distanceToEnd() {
  return document.documentElement.scrollHeight - innerHeight - scrollY;
}
