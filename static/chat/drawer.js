/**
 * The drawer on the right: tabs with one panel each. It is next to the chat, or covers the chat on a phone. Esc closes it
 * while the focus is in it, or while it covers the chat.
 */

import { el } from "../shared/dom.js";
import { onEscape } from "../shared/escape_stack.js";

const KEY = "turnwire.drawer";

/** Dispatches `tabchange` on its element; `detail` is the name of the shown tab, or null while the drawer is closed. */
export class Drawer {
  #root;
  #tabs;
  #toggle;
  #panels = new Map();

  /**
   * @param {HTMLElement} root
   * @param {HTMLButtonElement} toggle opens and closes it
   */
  constructor(root, toggle) {
    this.#root = root;
    this.#toggle = toggle;
    this.#tabs = root.querySelector("[role=tablist]");
    toggle.addEventListener("click", () => (root.hidden ? this.open() : this.close()));
    root.querySelector(".drawer-close").addEventListener("click", () => this.close());
    onEscape(root, () => this.close(), () => !root.hidden && (root.contains(document.activeElement) || this.#coversChat));
    this.#tabs.addEventListener("keydown", (event) => this.#moveFocus(event));
  }

  /**
   * Adds a tab.
   * @param {string} name for `show` and `open`
   * @param {string} title shown on the tab
   * @param {HTMLElement} content
   */
  add(name, title, content) {
    const panel = panelOf(content);
    panel.id ||= `panel-${name}`;
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-label", title);
    const tab = el("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": panel.id, "data-testid": `tab-${name}`, text: title,
      onclick: () => this.show(name) });
    this.#tabs.append(tab);
    if (panel.parentElement !== this.#root) this.#root.append(panel);
    this.#panels.set(name, { tab, panel });
    this.show(this.#initialTab(), false);
  }

  /** Shows a tab. @param {boolean} [store] whether to remember it for the next time */
  show(name, store = true) {
    for (const [key, { tab, panel }] of this.#panels) {
      tab.setAttribute("aria-selected", String(key === name));
      tab.tabIndex = key === name ? 0 : -1;
      panel.hidden = key !== name;
    }
    this.#root.dataset.tab = name;
    if (store) storeTab(name);
    this.#root.dispatchEvent(new CustomEvent("tabchange", { detail: this.#root.hidden ? null : name }));
  }

  /** @param {string} [name] the tab; default: the one that was shown last */
  open(name = this.#initialTab()) {
    this.#root.hidden = false;
    document.body.dataset.drawer = "open";
    this.#toggle.setAttribute("aria-expanded", "true");
    this.show(name);
    // If the drawer covers its toggle, the keyboard focus must move into it.
    if (this.#coversChat) this.#tabs.querySelector("[aria-selected=true]").focus();
  }

  close() {
    this.#root.hidden = true;
    document.body.dataset.drawer = "closed";
    this.#toggle.setAttribute("aria-expanded", "false");
    this.#toggle.focus();
    this.#root.dispatchEvent(new CustomEvent("tabchange", { detail: null }));
  }

  get #coversChat() {
    return getComputedStyle(this.#root).position === "fixed";
  }

  /** Returns the stored tab if it exists, else the first. */
  #initialTab() {
    const stored = loadTab();
    return this.#panels.has(stored) ? stored : [...this.#panels.keys()][0];
  }

  #moveFocus(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const names = [...this.#panels.keys()];
    const index = names.findIndex((name) => this.#panels.get(name).tab === document.activeElement);
    const name = names[(index + step + names.length) % names.length];
    this.show(name);
    this.#panels.get(name).tab.focus();
  }
}

/** Returns the element that can be the panel: a form keeps its own role, so it gets a box around it. */
function panelOf(content) {
  if (!content.matches("form")) return content;
  const panel = el("div");
  content.replaceWith(panel);
  panel.append(content);
  return panel;
}

function loadTab() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function storeTab(name) {
  try {
    sessionStorage.setItem(KEY, name);
  } catch {
    // Storage is disabled: the first tab is shown next time.
  }
}
