/** Link references: `[name]: https://…` may come long after the words that it makes a link of. */

import { amend } from "../shared/patch_dom.js";

const BRACKETS = /\[[^\]]+\]/;

export class References {
  /** Those that were met, as marked keeps them. */
  links = Object.create(null);
  #known = new Set();
  #waiting = [];

  /**
   * Notes what is drawn and may get a link later.
   * @param {string} raw its text
   * @param {number} start where that stands in the whole text, of which no copy is kept
   * @param {HTMLElement} node
   * @param {(raw: string) => HTMLElement} make draws it anew
   */
  note(raw, start, node, make) {
    if (BRACKETS.test(raw) && !node.querySelector(".code, .table")) this.#waiting.push({ start, end: start + raw.length, node, make });
  }

  /** This is drawn as something else now. */
  forget(node) {
    this.#waiting = this.#waiting.filter((noted) => noted.node !== node);
  }

  /** Draws anew what names a reference that has just been met. */
  resolve(text) {
    const met = Object.keys(this.links).filter((name) => !this.#known.has(name));
    if (met.length === 0) return;
    for (const name of met) this.#known.add(name);
    for (const { start, end, node, make } of this.#waiting) {
      const raw = text.slice(start, end);
      const words = raw.toLowerCase().replace(/\s+/g, " ");
      if (met.some((name) => words.includes(`[${name}]`))) amend(node, make(raw));
    }
  }
}
