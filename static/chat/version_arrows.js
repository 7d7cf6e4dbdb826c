/** The arrows between versions of one message: ‹ 2/3 ›. Hidden where there is only one, or where they stand side by side. */

import { el, icon, setText } from "../shared/dom.js";

export class VersionArrows {
  node;
  #count = el("span", { class: "version-count", "data-testid": "version" });
  #back;
  #on;
  #versions = [];
  #index = 0;

  /**
   * @param {string} what is versioned, in a word
   * @param {object} acts `choose` shows another version, `spread` shows them side by side
   */
  constructor(what, { choose, spread }) {
    const arrow = (name, label, step) => {
      const onclick = () => choose(this.#versions[this.#index + step]);
      return el("button", { type: "button", class: "act", "aria-label": `${label} ${what}`, title: `${label} ${what}`, onclick }, icon(name));
    };
    this.#back = arrow("back", "Previous", -1);
    this.#on = arrow("on", "Next", 1);
    const beside = el("button", { type: "button", class: "act", "aria-label": "Show them side by side", title: "Show them side by side",
      "data-testid": "spread", onclick: () => spread(this.#versions[0].parent, true) }, icon("beside"));
    this.node = el("span", { class: "versions", "data-testid": `${what}-versions`, hidden: true }, this.#back, this.#count, this.#on, beside);
  }

  /** @param {import("./message_tree.js").MessageNode} message */
  show(message) {
    const { parent } = message;
    this.#versions = parent?.kids.filter(({ role }) => role === message.role) ?? [];
    this.#index = this.#versions.indexOf(message);
    this.node.hidden = this.#versions.length < 2 || parent.spread;
    setText(this.#count, `${this.#index + 1}/${this.#versions.length}`);
    this.#back.disabled = this.#index === 0;
    this.#on.disabled = this.#index === this.#versions.length - 1;
  }
}
