/** The sheet with the keyboard shortcuts. Loaded when it is first opened. */

import { el, icon } from "../shared/dom.js";

const SHORTCUTS = [
  ["Enter", "Send the prompt"],
  ["Shift Enter", "New line"],
  ["1 2 3", "While it asks: after the answer, side by side, or stop and ask"],
  ["Esc", "Close what is open, else stop the newest answer"],
  ["Ctrl Shift O", "New conversation"],
  ["Ctrl K", "Search conversations"],
  ["?", "This list"],
];

let dialog = null;

/** Opens the sheet. Esc, a click beside it, or its button closes it. */
export function openShortcuts() {
  dialog ??= create();
  if (!dialog.open) dialog.showModal();
}

function create() {
  const isMac = /mac|iphone|ipad/i.test(navigator.userAgentData?.platform ?? navigator.platform ?? "");
  const rows = SHORTCUTS.map(([keys, text]) => el("div", {}, el("dt", {}, ...keys.split(" ").map((key) => el("kbd", { text: isMac && key === "Ctrl" ? "⌘" : key }))), el("dd", { text })));
  const close = el("button", { type: "button", class: "icon-button", "aria-label": "Close", title: "Close", onclick: () => node.close() }, icon("close"));
  const node = el("dialog", { class: "shortcut-sheet", "data-testid": "shortcut-sheet", "aria-labelledby": "shortcut-title" },
    el("div", { class: "shortcut-head" }, el("h2", { id: "shortcut-title", text: "Keyboard shortcuts" }), close), el("dl", {}, ...rows));
  node.addEventListener("click", ({ target }) => target === node && node.close());
  document.body.append(node);
  return node;
}
