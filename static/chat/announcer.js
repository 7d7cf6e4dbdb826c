/** Tells a screen reader when answers begin and end, in one sentence for all that happens at once; never the tokens. */

import { el } from "../shared/dom.js";

const GATHER_MS = 400;
const KEPT = 6;

export class Announcer {
  #region;
  #waiting = [];
  #timer = 0;

  /** @param {HTMLElement} region a polite live region */
  constructor(region) {
    this.#region = region;
  }

  say(text) {
    this.#waiting.push(text.replace(/\.$/, ""));
    this.#timer ||= setTimeout(() => this.#tell(), GATHER_MS);
  }

  #tell() {
    this.#timer = 0;
    const told = this.#waiting.splice(0);
    const counts = new Map();
    for (const text of told) counts.set(text, (counts.get(text) ?? 0) + 1);
    const words = [...counts].map(([text, count]) => (count > 1 ? `${text}, ${count} times` : text));
    this.#region.append(el("p", { text: `${words.join(". ")}.` }));
    while (this.#region.childElementCount > KEPT) this.#region.firstElementChild.remove();
  }
}
