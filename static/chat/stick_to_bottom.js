/** Keeps a scroller at its end while content grows, until the user scrolls up. */

const NEAR_END_PX = 80;
const MARGIN_TOP_PX = 8;

export class StickToBottom {
  #scroller;
  #content;
  #button;
  #isStuck = true;
  /** Whether it isn't to become stuck before the user scrolls. */
  #isHeld = false;
  #lastTop = 0;

  /**
   * @param {HTMLElement} scroller
   * @param {HTMLElement} content the element in it that grows
   * @param {HTMLButtonElement} button scrolls to the end; hidden near the end, and while the scroller is stuck
   */
  constructor(scroller, content, button) {
    this.#scroller = scroller;
    this.#content = content;
    this.#button = button;
    scroller.addEventListener("scroll", () => this.#onScroll(), { passive: true });
    const observer = new ResizeObserver(() => this.#update());
    observer.observe(content);
    observer.observe(scroller);
    button.addEventListener("click", () => this.scrollToEnd());
    for (const type of ["wheel", "touchmove", "keydown", "pointerdown"]) scroller.addEventListener(type, () => (this.#isHeld = false), { passive: true });
  }

  scrollToEnd() {
    this.#isHeld = false;
    this.#isStuck = true;
    this.#update();
  }

  /** Stays where it is, whatever grows, until the user scrolls. */
  hold() {
    this.#isHeld = true;
    this.#isStuck = false;
  }

  /** Updates the state. A smaller position means that the user scrolled up: growing content doesn't change the position. */
  #onScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    const nearEnd = scrollHeight - clientHeight - scrollTop < NEAR_END_PX;
    if (nearEnd && !this.#isHeld) this.#isStuck = true;
    else if (scrollTop < this.#lastTop) this.#isStuck = false;
    this.#lastTop = scrollTop;
    this.#button.hidden = nearEnd || this.#isStuck;
  }

  #update() {
    if (this.#isStuck) this.#scroller.scrollTop = this.#targetTop();
    else this.#onScroll();
  }

  /**
   * Returns the end. If the last element has side-by-side answers and is taller than the scroller, returns its top, or
   * the position that shows the end of the answer that the conversation goes on from.
   */
  #targetTop() {
    const last = this.#content.lastElementChild;
    const { scrollHeight, clientHeight } = this.#scroller;
    if (!last) return 0;
    const columns = last.matches(".columns") ? last : last.querySelector(":scope > .columns");
    if (!columns || last.offsetHeight <= clientHeight) return scrollHeight;
    const selected = columns.querySelector(":scope > [data-selected=true]") ?? columns;
    const end = this.#scroller.scrollTop + selected.getBoundingClientRect().bottom - this.#scroller.getBoundingClientRect().bottom;
    return Math.max(last.offsetTop - MARGIN_TOP_PX, end + MARGIN_TOP_PX);
  }
}
