/** One animation frame for all views: each paints at most once a frame, and together they keep to a budget. */

const BUDGET_MS = 6;

const dirty = new Set();
const later = new Set();
let frame = 0;

/**
 * Asks for `view.paint()` in the next frame. What doesn't fit the budget goes first in the frame after.
 * @param {{paint: (until: number) => void}} view gets the time at which this frame's budget is spent
 */
export function paintSoon(view) {
  dirty.add(view);
  frame ||= requestAnimationFrame(paintAll);
}

/** Asks for what can wait: when nothing else is to be painted, and the last that asked is the first, as a chat is read from its end. */
export function paintLater(view) {
  later.delete(view);
  later.add(view);
  frame ||= requestAnimationFrame(paintAll);
}

function paintAll() {
  frame = 0;
  const until = performance.now() + BUDGET_MS;
  for (const view of [...dirty]) {
    dirty.delete(view);
    view.paint(until);
    if (performance.now() > until) break;
  }
  // One of them in each frame, however busy it is.
  for (let first = true; later.size > 0 && (first || (dirty.size === 0 && performance.now() < until)); first = false) {
    const view = [...later].at(-1);
    later.delete(view);
    view.paint(until);
  }
  if (dirty.size + later.size > 0) frame ||= requestAnimationFrame(paintAll);
}
