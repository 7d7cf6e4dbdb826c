/** Keeps visible content in place while content is inserted above it. The browser doesn't do so at the very top. */

const SETTLE_MS = 150;

/**
 * Runs a change and keeps `anchor` at its position on the screen.
 * @param {HTMLElement} scroller
 * @param {HTMLElement} content the element in it that grows
 * @param {HTMLElement} anchor the element that must not move
 * @param {() => Promise<void>} change inserts content above the anchor
 */
export async function withScrollAnchor(scroller, content, anchor, change) {
  const before = anchor.getBoundingClientRect().top;
  await change();
  const restore = () => (scroller.scrollTop += anchor.getBoundingClientRect().top - before);
  restore();
  // Inserted messages get their real height only when they are first rendered.
  const observer = new ResizeObserver(restore);
  observer.observe(content);
  setTimeout(() => observer.disconnect(), SETTLE_MS);
}
