/**
 * Ignores a second click on something that has just appeared where the first click was: the pointer still means the
 * first one. A double click on Stop must not press what takes its place.
 *
 * Clicks by keyboard, by assistive technology and by scripts are never ignored.
 */

const WITHIN_MS = 600;
const WITHIN_PX = 24;
/** The step of the grid on which the surroundings of a press are looked at. It is less than the size of any button. */
const STEP_PX = 12;
const ACTIONABLE = "button, a[href], summary, label, input, select, textarea, [role=button]";

/** Starts to guard the document. @returns {() => void} stops it */
export function guardPresses() {
  let last = null;
  const onClick = (event) => {
    if (!event.isTrusted || event.detail === 0 || event.pointerType === "") return;
    const target = actionableAt(event.target);
    if (last && event.timeStamp - last.at < WITHIN_MS && isNear(event, last)) {
      // What takes turns with itself may be pressed fast, such as the arrows between versions.
      if (target && !last.around.has(target) && !target.closest("[data-repeatable]")) {
        event.preventDefault();
        event.stopImmediatePropagation();
      }
      return;
    }
    last = { x: event.clientX, y: event.clientY, at: event.timeStamp, around: actionableAround(event.clientX, event.clientY).add(target) };
  };
  addEventListener("click", onClick, { capture: true });
  return () => removeEventListener("click", onClick, { capture: true });
}

/** Returns what a click on an element presses: for a label, its field, which gets a click of its own. */
function actionableAt(node) {
  const found = node?.closest?.(ACTIONABLE);
  return found?.localName === "label" ? found.control : found;
}

function isNear({ clientX, clientY }, { x, y }) {
  return Math.abs(clientX - x) <= WITHIN_PX && Math.abs(clientY - y) <= WITHIN_PX;
}

/** Returns what could be pressed near a point. */
function actionableAround(x, y) {
  const found = new Set();
  for (let dx = -WITHIN_PX; dx <= WITHIN_PX; dx += STEP_PX) {
    for (let dy = -WITHIN_PX; dy <= WITHIN_PX; dy += STEP_PX) {
      const target = actionableAt(document.elementFromPoint(x + dx, y + dy));
      if (target) found.add(target);
    }
  }
  return found;
}
