/** Keeps the end of the thread in view while a person reads there; never pulls back one who has scrolled up. */

const NEAR_END_PX = 80;
const ROOM_ABOVE_PX = 8;

export class EndFollower {
  #scroller;
  #content;
  #button;
  #following = true;
  #last = 0;

  /**
   * @param {HTMLElement} scroller
   * @param {HTMLElement} content what grows in it
   * @param {HTMLButtonElement} button leads back to the end
   */
  constructor(scroller, content, button) {
    this.#scroller = scroller;
    this.#content = content;
    this.#button = button;
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    const observer = new ResizeObserver(() => this.#keep());
    observer.observe(content);
    observer.observe(scroller);
    button.addEventListener("click", () => this.toEnd());
  }

  toEnd() {
    this.#following = true;
    this.#keep();
  }

  /** Only a person scrolls up; text that grows just moves the end away. */
  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    const near = scrollHeight - clientHeight - scrollTop < NEAR_END_PX;
    if (near) this.#following = true;
    else if (scrollTop < this.#last) this.#following = false;
    this.#last = scrollTop;
    this.#button.hidden = near || this.#following;
  }

  #keep() {
    if (this.#following) this.#scroller.scrollTop = this.#target();
    else this.#scrolled();
  }

  /** The end; but of answers side by side that are higher than the screen, their top. */
  #target() {
    const last = this.#content.lastElementChild;
    const { scrollHeight, clientHeight } = this.#scroller;
    if (!last) return 0;
    const columns = last.matches(".columns") ? last : last.querySelector(":scope > .columns");
    return columns && last.offsetHeight > clientHeight ? last.offsetTop - ROOM_ABOVE_PX : scrollHeight;
  }
}
