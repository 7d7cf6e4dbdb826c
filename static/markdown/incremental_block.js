/** A list or a table that grows. Finished items and rows are rendered once; only the newest are rendered again. */

import { el } from "../shared/dom.js";
import { patchDom } from "../shared/patch_dom.js";
import { renderBlock } from "./markdown.js";

/** The number of items at the end that stay open: the last one may turn out to be part of the one before it. */
const OPEN_ITEMS = 2;
const INLINE = new Set(["#text", "A", "BR", "CODE", "DEL", "EM", "STRONG"]);

export class IncrementalBlock {
  node;
  /** The source that must precede the open items so that they are parsed as items of this block. */
  head = "";
  /** The number of items at the start that don't change any more. */
  settledCount = 0;
  #block;
  #table = null;
  #container;
  #isLoose = false;

  /** Returns whether this class renders a block. */
  static supports({ type }) {
    return type === "list" || type === "table";
  }

  /** @param {object} block a list or a table, as parsed by marked */
  constructor(block) {
    this.#block = block;
    if (block.type === "list") {
      this.node = this.#container = renderBlock({ ...block, items: [] });
      this.node.replaceChildren();
    } else {
      this.#table = renderBlock({ ...block, rows: [] });
      this.#container = this.#table.createTBody();
      this.node = scrollBox(this.#table);
    }
  }

  /** Returns whether a block is this block with more items. */
  isContinuation(block) {
    const { type, ordered, start } = this.#block;
    return block?.type === type && block.ordered === ordered && (this.settledCount > 0 || block.start === start);
  }

  /** Renders the items of a block after the settled ones. */
  update(block) {
    this.#block = block;
    const fresh = renderBlock(block);
    if (this.#table && this.settledCount === 0) patchDom(this.#table.tHead, fresh.tHead);
    if (block.loose && !this.#isLoose) for (const item of [...this.#container.children].slice(0, this.settledCount)) wrapInParagraph(item);
    this.#isLoose ||= block.loose === true;
    const items = this.#itemsOf(block, fresh);
    for (const [index, item] of items.entries()) {
      const old = this.#container.children[this.settledCount + index];
      if (old) patchDom(old, item);
      else this.#container.append(item);
    }
    while (this.#container.children.length > this.settledCount + items.length) this.#container.lastElementChild.remove();
  }

  /**
   * Settles the items that more text can't change.
   * @param {boolean} [all] the block is complete
   * @returns {{raw: string, node: HTMLElement}[]} the settled items; in the text they follow each other, after the head
   */
  settle(all = false) {
    const [head, sources] = this.#block.type === "list" ? ["", this.#block.items.map(({ raw }) => raw)] : tableRows(this.#block.raw);
    const settledSources = sources.slice(0, Math.max(0, sources.length - (all ? 0 : OPEN_ITEMS)));
    const items = settledSources.map((raw, index) => ({ raw, node: this.#container.children[this.settledCount + index] }));
    if (items.length > 0) this.head = head;
    this.settledCount += items.length;
    return items;
  }

  /** Removes the items that are not settled. */
  removeOpenItems() {
    while (this.#container.children.length > this.settledCount) this.#container.lastElementChild.remove();
  }

  /** Renders a settled item again, after its links have changed. */
  renderItem(block) {
    return this.#itemsOf(block, renderBlock(block)).at(-1);
  }

  #itemsOf(block, fresh) {
    if (block.type === "table") return [...(fresh.tBodies[0]?.rows ?? [])];
    const items = [...fresh.children];
    if (this.#isLoose && !block.loose) for (const item of items) wrapInParagraph(item);
    return items;
  }
}

/** Wraps a table in a box that scrolls sideways if the table is wider. */
export function scrollBox(table) {
  const box = el("div", { class: "table", tabindex: "0", role: "group", "aria-label": "Table" });
  table.replaceWith(box);
  box.append(table);
  return box;
}

/** Splits the source of a table into its head (two lines) and its rows. */
function tableRows(raw) {
  const lines = raw.split(/(?<=\n)/);
  return [lines.slice(0, 2).join(""), lines.slice(2)];
}

/** Wraps an item's inline content in a paragraph, as in a loose list. */
function wrapInParagraph(item) {
  let paragraph = null;
  for (const node of [...item.childNodes]) {
    if (!INLINE.has(node.nodeName)) {
      paragraph = null;
    } else if (paragraph || node.nodeName !== "#text" || node.data.trim()) {
      if (!paragraph) node.before((paragraph = el("p")));
      paragraph.append(node);
    }
  }
}
