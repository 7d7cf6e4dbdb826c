/** One animation frame for all views: each view paints at most once per frame, and all of them share a time budget. */

const BUDGET_MS = 6;
/** Added to `BUDGET_MS` for deferred views, in a frame in which nothing else is left to paint. */
const BUDGET_IDLE_MS = 10;
/** The budget of a view that is painted alone. */
const BUDGET_ALONE_MS = 4;
/** Each painted view also costs style, layout and paint, which the browser does after the time budget. */
const VIEWS_MAX = 10;

const scheduled = new Set();
const scheduledAlone = new Set();
const deferred = new Set();
let frame = 0;
let paintedAlone = false;

/**
 * Schedules `view.paint()` for the next frame. Views that don't fit its budget wait for a later frame, and are
 * painted first there.
 * @param {{paint: (deadline: number) => void}} view `deadline`: the end of the budget, as a `performance.now()` time
 */
export function schedulePaint(view) {
  scheduled.add(view);
  frame ||= requestAnimationFrame(paintAll);
}

/** Schedules a paint in a frame in which no other view is painted. Such frames alternate with the others. */
export function schedulePaintAlone(view) {
  scheduledAlone.add(view);
  frame ||= requestAnimationFrame(paintAll);
}

/**
 * Schedules a paint that can wait until nothing else is scheduled. The view scheduled last is painted first, because a
 * chat is read from its end.
 */
export function schedulePaintWhenIdle(view) {
  deferred.delete(view);
  deferred.add(view);
  frame ||= requestAnimationFrame(paintAll);
}

function paintAll() {
  frame = 0;
  paintedAlone = scheduledAlone.size > 0 && !(paintedAlone && scheduled.size + deferred.size > 0);
  if (paintedAlone) {
    const [view] = scheduledAlone;
    scheduledAlone.delete(view);
    view.paint(performance.now() + BUDGET_ALONE_MS);
  } else {
    paintTogether(performance.now() + BUDGET_MS);
  }
  if (scheduled.size + scheduledAlone.size + deferred.size > 0) frame ||= requestAnimationFrame(paintAll);
}

function paintTogether(deadline) {
  for (const view of [...scheduled].slice(0, VIEWS_MAX)) {
    scheduled.delete(view);
    view.paint(deadline);
    if (performance.now() > deadline) break;
  }
  const idleDeadline = scheduled.size > 0 ? deadline : deadline + BUDGET_IDLE_MS;
  // Each frame paints at least one deferred view, so that they make progress while the page is busy.
  for (let first = true; deferred.size > 0 && (first || (scheduled.size === 0 && performance.now() < idleDeadline)); first = false) {
    const view = [...deferred].at(-1);
    deferred.delete(view);
    view.paint(idleDeadline);
  }
}
