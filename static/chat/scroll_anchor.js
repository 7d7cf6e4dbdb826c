/** Keeps what is read where it is while something comes in above it; the browser doesn't see to that at the very top. */

const HEIGHTS_KNOWN_MS = 150;

/**
 * @param {HTMLElement} scroller
 * @param {HTMLElement} content what grows in it
 * @param {HTMLElement} first what was at the top, and stays where it is
 * @param {() => Promise<void>} grow lets it grow above that
 */
export async function keepPlace(scroller, content, first, grow) {
  const before = first.getBoundingClientRect().top;
  await grow();
  const stay = () => (scroller.scrollTop += first.getBoundingClientRect().top - before);
  stay();
  // What stands above gets its real height when it is first in sight, before it is painted.
  const observer = new ResizeObserver(stay);
  observer.observe(content);
  setTimeout(() => observer.disconnect(), HEIGHTS_KNOWN_MS);
}
