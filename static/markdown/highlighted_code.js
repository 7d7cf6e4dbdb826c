/**
 * Builds the nodes of highlighted code. Long code becomes blocks of lines, of which the browser lays out only those in
 * view; a single block of 300,000 characters would stop the page at each change.
 */

import { el } from "../shared/dom.js";

const LINES_PER_BLOCK = 100;
const SINGLE_BLOCK_CHARS_MAX = 30_000;
const LINE_HEIGHT_EM = 1.6;

export class HighlightedCode {
  nodes = document.createDocumentFragment();
  #isLong;
  #block;
  #lines = 0;
  #columns = 0;
  #longest = 0;

  /** @param {number} length of the code, in characters */
  constructor(length) {
    this.#isLong = length > SINGLE_BLOCK_CHARS_MAX;
    this.#block = this.#isLong ? this.#createBlock() : this.nodes;
  }

  /** Adds a text that follows the earlier ones. @param {string} className may be empty */
  add(className, text) {
    if (!this.#isLong) return this.#append(className, text);
    const lines = text.split("\n");
    for (const [index, line] of lines.entries()) {
      if (index > 0) this.#endLine();
      this.#columns += line.length;
      if (line) this.#append(className, line);
    }
  }

  /** Ends the last block. */
  finish() {
    if (this.#isLong) this.#setSize();
  }

  #append(className, text) {
    this.#block.append(className ? el("span", { class: className, text }) : text);
  }

  #endLine() {
    this.#longest = Math.max(this.#longest, this.#columns);
    this.#columns = 0;
    this.#lines++;
    if (this.#lines % LINES_PER_BLOCK > 0) return void this.#block.append("\n");
    this.#setSize();
    this.#longest = 0;
    this.#block = this.#createBlock();
  }

  #createBlock() {
    return this.nodes.appendChild(el("span", { class: "code-lines" }));
  }

  /** Gives a block the size that it will have when it is laid out. */
  #setSize() {
    const lines = this.#lines % LINES_PER_BLOCK || LINES_PER_BLOCK;
    this.#block.style.containIntrinsicSize = `${Math.max(this.#longest, this.#columns)}ch auto ${lines * LINE_HEIGHT_EM}em`;
  }
}
