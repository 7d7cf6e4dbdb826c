/** Link references: a definition `[name]: https://…` may arrive long after the text that it turns into a link. */

import { patchDom } from "../shared/patch_dom.js";

const BRACKETS = /\[[^\]]+\]/;

export class LinkReferences {
  /** The definitions so far, in marked's format. */
  links = Object.create(null);
  #resolved = new Set();
  #unresolved = [];
  #onPatched;

  /** @param {(node: HTMLElement) => void} onPatched completes a node that was rendered again */
  constructor(onPatched) {
    this.#onPatched = onPatched;
  }

  /**
   * Tracks a rendered node that may get a link later.
   * @param {string} raw the node's Markdown source
   * @param {number} start the offset of `raw` in the whole text, from which it is read again, so that no copy is kept
   * @param {HTMLElement} node
   * @param {(raw: string) => HTMLElement} render renders a source to a new node
   */
  track(raw, start, node, render) {
    if (BRACKETS.test(raw) && !node.querySelector(".code, .table")) this.#unresolved.push({ start, end: start + raw.length, node, render });
  }

  /** Stops tracking a node, because its content is about to be tracked as part of a longer source. */
  untrack(node) {
    this.#unresolved = this.#unresolved.filter((entry) => entry.node !== node);
  }

  /** Renders again the nodes that may use newly added definitions. @param {string} text the whole text */
  resolve(text) {
    const added = Object.keys(this.links).filter((name) => !this.#resolved.has(name));
    if (added.length === 0) return;
    for (const name of added) this.#resolved.add(name);
    for (const { start, end, node, render } of this.#unresolved) {
      const raw = text.slice(start, end);
      const lowered = raw.toLowerCase().replace(/\s+/g, " ");
      if (!added.some((name) => lowered.includes(`[${name}]`))) continue;
      patchDom(node, render(raw));
      this.#onPatched(node);
    }
  }
}
