/** Switches between versions of one message: ‹ 2/3 ›. Hidden if there is only one, or if they are side by side. */

import { el, icon, setText } from "../shared/dom.js";

export class VersionArrows {
  node;
  #count = el("span", { class: "version-count", "data-testid": "version" });
  #previous;
  #next;
  #versions = [];
  #index = 0;

  /**
   * @param {string} noun "answer" or "prompt"
   * @param {object} actions `select` shows a version, `setSideBySide` shows all
   */
  constructor(noun, { select, setSideBySide }) {
    const arrow = (name, label, step) => {
      const onclick = () => select(this.#versions[this.#index + step]);
      return el("button", { type: "button", class: "icon-button", "aria-label": `${label} ${noun}`, title: `${label} ${noun}`, onclick }, icon(name));
    };
    this.#previous = arrow("chevron-left", "Previous", -1);
    this.#next = arrow("chevron-right", "Next", 1);
    const sideBySide = el("button", { type: "button", class: "icon-button", "aria-label": "Show side by side", title: "Show side by side",
      "data-testid": "side-by-side", onclick: () => setSideBySide(this.#versions[0].parent, true) }, icon("columns"));
    this.node = el("span", { class: "versions", "data-testid": `${noun}-versions`, "data-repeatable": true, hidden: true }, this.#previous, this.#count, this.#next, sideBySide);
  }

  /** @param {import("./message_tree.js").MessageNode} message */
  update(message) {
    const { parent } = message;
    this.#versions = parent?.children.filter(({ role }) => role === message.role) ?? [];
    this.#index = this.#versions.indexOf(message);
    this.node.hidden = this.#versions.length < 2 || parent.sideBySide;
    setText(this.#count, `${this.#index + 1}/${this.#versions.length}`);
    this.#previous.disabled = this.#index === 0;
    this.#next.disabled = this.#index === this.#versions.length - 1;
  }
}
