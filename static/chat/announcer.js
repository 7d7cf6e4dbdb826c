/** Announces to screen readers when answers start and end. Announcements close in time are combined; the text of an answer isn't announced. */

import { el } from "../shared/dom.js";

const BATCH_MS = 400;
const MESSAGES_MAX = 6;

export class Announcer {
  #region;
  #pending = [];
  #timer = 0;

  /** @param {HTMLElement} region a polite live region */
  constructor(region) {
    this.#region = region;
  }

  announce(text) {
    this.#pending.push(text.replace(/\.$/, ""));
    this.#timer ||= setTimeout(() => this.#flush(), BATCH_MS);
  }

  #flush() {
    this.#timer = 0;
    const counts = new Map();
    for (const text of this.#pending.splice(0)) counts.set(text, (counts.get(text) ?? 0) + 1);
    const sentences = [...counts].map(([text, count]) => (count > 1 ? `${text}, ${count} times` : text));
    this.#region.append(el("p", { text: `${sentences.join(". ")}.` }));
    while (this.#region.childElementCount > MESSAGES_MAX) this.#region.firstElementChild.remove();
  }
}
