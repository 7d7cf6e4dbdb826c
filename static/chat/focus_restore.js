/**
 * Who works with the keyboard is never left nowhere: where a key makes the thing with the focus go away, what has come
 * into its place gets it. A pointer needs no focus, and on a phone it would only open the keyboard.
 */

/** What answers a key may come a moment later. */
const LOOK_AFTER_MS = [50, 150, 400, 900];
const FOCUSABLE = "button, a[href], input, select, textarea, summary, [tabindex='0']";
/** Things of their own: the focus stays with one as long as it is there. */
const UNIT = ".turn, .question, .chat-item, .drawer, .composer";

/** @param {HTMLElement} last gets the focus where nothing nearer can */
export function keepFocus(last) {
  let had = null;
  let timers = [];
  document.addEventListener("focusin", ({ target }) => (had = target === document.body ? had : trace(target)));
  document.addEventListener("keydown", () => {
    timers.forEach(clearTimeout);
    timers = LOOK_AFTER_MS.map((ms, index) => setTimeout(() => {
      if (!had || isFocused()) return;
      const place = placeOf(had) ?? (index === LOOK_AFTER_MS.length - 1 ? last : null);
      place?.focus({ preventScroll: place !== last });
    }, ms));
  }, { capture: true });
}

function isFocused() {
  const at = document.activeElement;
  return at !== null && at !== document.body && usable(at);
}

/** Where something stands: what it is called, what holds it, and what it belongs to. */
function trace(node) {
  const above = [];
  for (let at = node.parentElement; at && at !== document.body; at = at.parentElement) above.push(at);
  return { node, name: nameOf(node), group: node.parentElement?.closest("[data-testid]")?.dataset.testid, above, unit: node.closest(UNIT) };
}

function placeOf({ node, name, group, above, unit }) {
  if (node.isConnected && usable(node)) return node; // it was moved, and lost the focus by that
  const within = unit?.isConnected ? [unit] : above.filter((at) => at.isConnected);
  for (const at of within) {
    const found = [...at.querySelectorAll(FOCUSABLE)].filter(usable);
    const same = found.find((other) => nameOf(other) === name) ?? found.find((other) => group && other.closest(`[data-testid="${group}"]`) && at.dataset.testid !== group);
    if (same) return same;
    if (at === unit && found.length > 0) return found[0];
  }
  return null;
}

function nameOf(node) {
  return node.dataset.testid ?? node.getAttribute("aria-label") ?? node.className;
}

function usable(node) {
  return !node.disabled && node.tabIndex >= 0 && node.checkVisibility({ visibilityProperty: true });
}
