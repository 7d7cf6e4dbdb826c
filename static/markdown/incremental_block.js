/**
 * A list or a table that grows: its items and rows are made once, and only the newest are made anew as more of them comes.
 */

import { amend } from "../shared/patch_dom.js";
import { el } from "../shared/dom.js";
import { elementOf } from "./markdown.js";

/** The last part may still turn out to be none, and then belongs to the one before it. */
const OPEN_PARTS = 2;
const INLINE = new Set(["#text", "A", "BR", "CODE", "DEL", "EM", "STRONG"]);

export class PartedBlock {
  node;
  /** What has to stand in front of the open parts, so that they are read as parts of this. */
  head = "";
  settled = 0;
  #block;
  #table = null;
  #holder;
  #loose = false;

  static takes({ type }) {
    return type === "list" || type === "table";
  }

  /** @param {object} block a list or a table, as marked reads it */
  constructor(block) {
    this.#block = block;
    if (block.type === "list") {
      this.node = this.#holder = elementOf({ ...block, items: [] });
      this.node.replaceChildren();
    } else {
      this.#table = elementOf({ ...block, rows: [] });
      this.#holder = this.#table.createTBody();
      this.node = framed(this.#table);
    }
  }

  /** Whether a block is this one, grown. */
  fits(block) {
    const { type, ordered, start } = this.#block;
    return block?.type === type && block.ordered === ordered && (this.settled > 0 || block.start === start);
  }

  /** Shows a block's parts, behind those that are settled. */
  show(block) {
    this.#block = block;
    const fresh = elementOf(block);
    if (this.#table && this.settled === 0) amend(this.#table.tHead, fresh.tHead);
    if (block.loose && !this.#loose) for (const part of [...this.#holder.children].slice(0, this.settled)) loosen(part);
    this.#loose ||= block.loose === true;
    const parts = this.#partsOf(block, fresh);
    for (const [index, part] of parts.entries()) {
      const old = this.#holder.children[this.settled + index];
      if (old) amend(old, part);
      else this.#holder.append(part);
    }
    while (this.#holder.children.length > this.settled + parts.length) this.#holder.lastElementChild.remove();
  }

  /**
   * Lets go of the parts that more text can't change.
   * @param {boolean} [all] no more comes
   * @returns {{raw: string, node: HTMLElement}[]} them; in the text they follow each other, behind the head
   */
  settle(all = false) {
    const [head, raws] = this.#block.type === "list" ? ["", this.#block.items.map(({ raw }) => raw)] : rowsOf(this.#block.raw);
    const over = raws.slice(0, Math.max(0, raws.length - (all ? 0 : OPEN_PARTS)));
    const parts = over.map((raw, index) => ({ raw, node: this.#holder.children[this.settled + index] }));
    if (parts.length > 0) this.head = head;
    this.settled += parts.length;
    return parts;
  }

  /** Takes away the parts that are not settled. */
  cut() {
    while (this.#holder.children.length > this.settled) this.#holder.lastElementChild.remove();
  }

  /** How a settled part looks whose words have got another meaning. */
  again(block) {
    return this.#partsOf(block, elementOf(block)).at(-1);
  }

  #partsOf(block, fresh) {
    if (block.type === "table") return [...(fresh.tBodies[0]?.rows ?? [])];
    const items = [...fresh.children];
    if (this.#loose && !block.loose) for (const item of items) loosen(item);
    return items;
  }
}

/** A table in a frame that scrolls sideways where the table is wider. */
export function framed(table) {
  const frame = el("div", { class: "table", tabindex: "0", role: "group", "aria-label": "Table" });
  table.replaceWith(frame);
  frame.append(table);
  return frame;
}

function rowsOf(raw) {
  const lines = raw.split(/(?<=\n)/);
  return [lines.slice(0, 2).join(""), lines.slice(2)];
}

/** Gives an item's words the paragraph that they have where items stand apart. */
function loosen(item) {
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
