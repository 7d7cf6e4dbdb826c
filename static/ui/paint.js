/** One animation frame for all views: each paints at most once a frame, and together they keep to a budget. */

const BUDGET_MS = 6;

const dirty = new Set();
let frame = 0;

/**
 * Asks for `view.paint()` in the next frame. What doesn't fit the budget goes first in the frame after.
 * @param {{paint: (until: number) => void}} view gets the time at which this frame's budget is spent
 */
export function paintSoon(view) {
  dirty.add(view);
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
  if (dirty.size > 0) frame ||= requestAnimationFrame(paintAll);
}
