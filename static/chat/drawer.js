/** The drawer at the right: tabs, one panel each. It stands beside the chat, on a phone before it; Esc closes it. */

import { el } from "../shared/dom.js";

const KEY = "turnwire.drawer";

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
    root.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        this.close();
      }
    });
    this.#tabs.addEventListener("keydown", (event) => this.#step(event));
  }

  /**
   * Adds a tab.
   * @param {string} name in the page's code
   * @param {string} title for people
   * @param {HTMLElement} panel what it shows
   */
  add(name, title, panel) {
    panel.id ||= `panel-${name}`;
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-label", title);
    const tab = el("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": panel.id, "data-testid": `tab-${name}`, text: title,
      onclick: () => this.show(name) });
    this.#tabs.append(tab);
    if (panel.parentElement !== this.#root) this.#root.append(panel);
    this.#panels.set(name, { tab, panel });
    this.show(recalled(this.#panels) ?? [...this.#panels.keys()][0], false);
  }

  show(name, keep = true) {
    for (const [key, { tab, panel }] of this.#panels) {
      tab.setAttribute("aria-selected", String(key === name));
      tab.tabIndex = key === name ? 0 : -1;
      panel.hidden = key !== name;
    }
    this.#root.dataset.tab = name;
    if (keep) remember(name);
    this.#root.dispatchEvent(new CustomEvent("shown", { detail: this.#root.hidden ? null : name }));
  }

  open(name) {
    this.#root.hidden = false;
    document.body.dataset.drawer = "open";
    this.#toggle.setAttribute("aria-expanded", "true");
    this.show(name ?? recalled(this.#panels) ?? [...this.#panels.keys()][0]);
    // Where it covers the button that opened it, the keyboard goes on in here.
    if (getComputedStyle(this.#root).position === "fixed") this.#tabs.querySelector("[aria-selected=true]").focus();
  }

  close() {
    this.#root.hidden = true;
    document.body.dataset.drawer = "closed";
    this.#toggle.setAttribute("aria-expanded", "false");
    this.#toggle.focus();
    this.#root.dispatchEvent(new CustomEvent("shown", { detail: null }));
  }

  #step(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const names = [...this.#panels.keys()];
    const at = names.findIndex((name) => this.#panels.get(name).tab === document.activeElement);
    const name = names[(at + step + names.length) % names.length];
    this.show(name);
    this.#panels.get(name).tab.focus();
  }
}

function recalled(panels) {
  try {
    const name = sessionStorage.getItem(KEY);
    return panels.has(name) ? name : null;
  } catch {
    return null;
  }
}

function remember(name) {
  try {
    sessionStorage.setItem(KEY, name);
  } catch {
    // Storage is off: the first tab is shown next time.
  }
}
