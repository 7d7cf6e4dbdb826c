/**
 * Restores a lost keyboard focus. If a key press removes the focused element, the element that replaced it gets the
 * focus.
 *
 * After a click or a tap the focus isn't restored: a pointer doesn't need it, and on a phone it would open the keyboard.
 */

/** When to look after a key press, in ms. The replacement may appear with a delay. */
const CHECK_AFTER_MS = [50, 150, 400, 900];
const FOCUSABLE = "button, a[href], input, select, textarea, summary, [tabindex='0']";
/** Elements that keep the focus within themselves as long as they exist. */
const UNIT = ".turn, .prompt-view, .conversation-item, .drawer, .composer";

/** Starts to restore lost focus. @param {HTMLElement} fallback gets the focus if no closer element can */
export function restoreFocus(fallback) {
  let lastFocus = null;
  let timers = [];
  document.addEventListener("focusin", ({ target }) => (lastFocus = target === document.body ? lastFocus : describe(target)));
  document.addEventListener("keydown", () => {
    timers.forEach(clearTimeout);
    timers = CHECK_AFTER_MS.map((ms, index) => setTimeout(() => {
      if (!lastFocus || hasFocus()) return;
      const target = findReplacement(lastFocus) ?? (index === CHECK_AFTER_MS.length - 1 ? fallback : null);
      target?.focus({ preventScroll: target !== fallback });
    }, ms));
  }, { capture: true });
}

function hasFocus() {
  const focused = document.activeElement;
  return focused !== null && focused !== document.body && canFocus(focused);
}

/** Describes a focused element so that its replacement can be found: its name, its group, its ancestors, its unit. */
function describe(node) {
  const ancestors = [];
  for (let at = node.parentElement; at && at !== document.body; at = at.parentElement) ancestors.push(at);
  return { node, name: nameOf(node), group: node.parentElement?.closest("[data-testid]")?.dataset.testid, ancestors, unit: node.closest(UNIT) };
}

function findReplacement({ node, name, group, ancestors, unit }) {
  if (node.isConnected && canFocus(node)) return node; // it was moved, which removes the focus
  const scopes = unit?.isConnected ? [unit] : ancestors.filter((ancestor) => ancestor.isConnected);
  for (const scope of scopes) {
    const candidates = [...scope.querySelectorAll(FOCUSABLE)].filter(canFocus);
    const match = candidates.find((other) => nameOf(other) === name) ?? candidates.find((other) => group && other.closest(`[data-testid="${group}"]`) && scope.dataset.testid !== group);
    if (match) return match;
    if (scope === unit && candidates.length > 0) return candidates[0];
  }
  return null;
}

function nameOf(node) {
  return node.dataset.testid ?? node.getAttribute("aria-label") ?? node.className;
}

function canFocus(node) {
  return !node.disabled && node.tabIndex >= 0 && node.checkVisibility({ visibilityProperty: true });
}
