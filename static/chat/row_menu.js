/** The menu of a conversation: a popover, which the browser closes on Esc and on a click elsewhere. */

import { el } from "../shared/dom.js";

const GAP_PX = 4;

/**
 * Opens a menu below a button.
 * @param {HTMLElement} button
 * @param {[string, () => void][]} items the labels, and what they do
 */
export function openRowMenu(button, items) {
  const menu = el("div", { class: "row-menu", role: "menu", "aria-label": "Conversation", popover: "auto", "data-testid": "row-menu" },
    ...items.map(([text, act]) => el("button", { type: "button", role: "menuitem", text, onclick: () => {
      menu.hidePopover();
      act();
    } })));
  menu.addEventListener("keydown", (event) => moveFocus(event, [...menu.children]));
  menu.addEventListener("toggle", ({ newState }) => {
    button.setAttribute("aria-expanded", String(newState === "open"));
    if (newState !== "closed") return;
    button.popoverTargetElement = null;
    menu.remove();
  });
  button.after(menu);
  button.popoverTargetElement = menu; // so that it closes the menu too
  menu.showPopover();
  place(menu, button.getBoundingClientRect());
  menu.firstElementChild.focus();
}

function place(menu, { left, top, bottom }) {
  const { offsetWidth, offsetHeight } = menu;
  const below = bottom + GAP_PX;
  menu.style.left = `${Math.max(GAP_PX, Math.min(left, innerWidth - offsetWidth - GAP_PX))}px`;
  menu.style.top = `${below + offsetHeight < innerHeight ? below : Math.max(GAP_PX, top - GAP_PX - offsetHeight)}px`;
}

function moveFocus(event, items) {
  const index = items.indexOf(document.activeElement);
  const next = { ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: -1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  items.at(next % items.length).focus();
}
