/** Esc closes the topmost open thing. Menus and dialogs of the browser close by themselves. */

import { isComposing } from "./dom.js";

/** What is open, oldest first: `{node, close, isOnTop}`. */
const entries = [];

/**
 * Makes Esc close something that is open on the page.
 * @param {Element} node what is open; while it isn't in the document, Esc goes to what is below it
 * @param {() => void} close also restores the focus
 * @param {() => boolean} [isOnTop] returns whether Esc may close it now
 * @returns {() => void} `release`: call it when it is closed in another way
 */
export function onEscape(node, close, isOnTop = () => true) {
  const entry = { node, close, isOnTop };
  entries.push(entry);
  return () => {
    const index = entries.indexOf(entry);
    if (index >= 0) entries.splice(index, 1);
  };
}

/** Returns what Esc closes: the innermost thing with the focus, else the one that was opened last. */
function topmost() {
  const open = entries.filter(({ node, isOnTop }) => node.isConnected && node.checkVisibility({ visibilityProperty: true }) && isOnTop());
  const focused = open.filter(({ node }) => node.contains(document.activeElement));
  return focused.reduce((inner, entry) => (inner && !inner.node.contains(entry.node) ? inner : entry), null) ?? open.at(-1);
}

/** Starts to listen for Esc. @param {() => void} otherwise is called if nothing is open */
export function listenForEscape(otherwise) {
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented || isComposing(event)) return;
    if (document.querySelector(":modal, :popover-open")) return;
    event.preventDefault();
    const entry = topmost();
    if (entry) entry.close();
    else otherwise();
  });
}
