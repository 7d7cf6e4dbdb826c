/**
 * Shows growing markdown, in pieces that fit a frame. Finished blocks are made once; plain words that come to the open
 * block are appended to its last text node; only what may change its shape makes it be parsed anew, and then it is amended.
 */

import { CodeBlock } from "./code_block.js";
import { amend, grow, lastText } from "../shared/patch_dom.js";
import { el } from "../shared/dom.js";
import { blocksOf, elementOf, HEADING_ABOVE, isKnotty, languageOf } from "./markdown.js";
import { framed, PartedBlock } from "./incremental_block.js";
import { References } from "./link_references.js";

/** A line of only these may still turn out to be any kind of block. */
const UNDECIDED = /^[\s\dxX.)#>*+\-_`~|:=[\]]*$/;
/** Characters that can't change the shape of the line that they continue. */
const PLAIN = /^[^\\`*_{}[\]()<>#+!|~:/@&;=\r\n]*$/;
const PLAIN_IN = new Set(["P", "LI", "H3", "H4", "H5", "H6"]);
/** The first line of a table may be plain words with pipes until its second line is whole, and a pipe alone is no row. */
const MAYBE_TABLE = /^\|[^\n]*\n[ :|-]*$/;
const EMPTY_ROW = /^\|\s*$/;
/** What a line begins with that may be a reference, also in a quote or a list; it shows nothing itself. */
const REFERENCE_MAX = 300;
const MAYBE_REFERENCE = /^(?: *(?:>|[-*+] |\d{1,9}[.)] ))* *\[[^\]]{0,60}(?:\](?::.*)?)?$/;
/** A fence that isn't closed yet: what comes is code, whatever it looks like. */
const FENCE = /^(`{3,}|~{3,})[^\n]*\n/;
/** A parse that took long is not repeated before that many times its duration has passed. */
const REST = 6;
/** What is drawn in one step, so that a frame's time is kept whatever the text. */
const PIECE_CHARS = 2_000;
const PIECE_LINES = 40;
/** A block that is made anew as it grows is cut there: a paragraph at the next line's end, or a word's. */
const LINES_MAX = 3_000;
const PARAGRAPH_MAX = 6_000;
const BLOCK_MAX = 12_000;
/** The pieces of a paragraph become one when they are whole, up to this length. */
const JOINED_MAX = 15_000;

/** Appends markdown to `root` as its text grows. */
export class MarkdownView {
  #root;
  #shown = 0;
  #open = true;
  #settled = 0;
  #tail = [];
  #hook = null;
  #pending = "";
  #restUntil = 0;
  #level = HEADING_ABOVE;
  #references = new References();
  /** The paragraph that was cut last, and where its text begins. @type {{node: HTMLElement, start: number} | null} */
  #cut = null;

  /** @param {HTMLElement} root gets the blocks as children */
  constructor(root) {
    this.#root = root;
  }

  /**
   * Shows a text. It may only grow from call to call.
   * @param {string} said the whole text so far
   * @param {boolean} open more may follow
   * @param {number} [until] by `performance.now()`: what can't be drawn by then waits for the next call
   * @returns {boolean} false: not all of it is shown yet; call again
   */
  update(said, open, until = Infinity) {
    const lines = said.includes("\r") ? said.replace(/\r\n?/g, "\n") : said;
    const text = open ? lines.slice(0, decided(lines)) : lines;
    while (this.#shown < text.length || this.#open !== open) {
      const end = pieceEnd(text, this.#shown);
      const more = open || end < text.length;
      if (!more || !this.#append(text.slice(this.#shown, end))) {
        const startedAt = performance.now();
        const again = more && end === text.length;
        if (again && startedAt < this.#restUntil) return false;
        this.#parse(text, end, more);
        if (again) this.#restUntil = performance.now() + (performance.now() - startedAt) * REST;
      }
      this.#shown = end;
      this.#open = more;
      if (performance.now() > until) return end === text.length && more === open;
    }
    return true;
  }

  /** Puts plain words where the last ones went; false where that can't be known to be right. */
  #append(added) {
    const last = this.#tail.at(-1);
    if (last?.code) {
      if (!last.fenced || /[`~]/.test(added)) return false;
    } else if (!this.#hook || !PLAIN.test(added)) {
      return false;
    }
    const text = this.#pending + added;
    const kept = last.code ? text.replace(/\n$/, "") : text.trimEnd();
    this.#pending = text.slice(kept.length);
    if (kept) (last.code ? last.code.content : this.#hook).appendData(kept);
    return true;
  }

  #parse(whole, end, open) {
    const text = whole.slice(this.#settled, end);
    const head = this.#tail[0]?.parted?.head ?? "";
    const blocks = [];
    let at = -head.length;
    let level = this.#level;
    for (const block of blocksOf(head + text, this.#references.links, open)) {
      if (block.type === "heading") block.level = level = Math.min(6, block.depth + HEADING_ABOVE, level + 1);
      if (block.type !== "space" && block.type !== "def") blocks.push({ block, start: Math.max(0, at), level });
      at += block.raw.length;
    }
    if (this.#tail[0]?.parted?.settled && !this.#tail[0].parted.fits(blocks[0]?.block)) this.#leave(this.#tail.shift());
    for (const [index, { block }] of blocks.entries()) this.#place(index, block);
    for (const { node } of this.#tail.splice(blocks.length)) node.remove();
    this.#settle(whole, text, blocks, open);
    this.#references.resolve(whole);
    this.#findHook(text);
  }

  /** Lets go of what more text can't change. */
  #settle(whole, text, blocks, open) {
    let growing = open ? firstGrowing(text, blocks) : blocks.length;
    const full = growing === blocks.length - 1 && isFull(text, blocks[growing]);
    if (full) growing++;
    for (const [index, view] of this.#tail.splice(0, growing).entries()) {
      const { block, start, level } = blocks[index];
      this.#level = level;
      if (view.parted) this.#settleParts(view.parted, start, true);
      else if (!view.code) this.#settleWords(whole, block, this.#settled + start, view, full && index === growing - 1);
      finish(view);
    }
    const parted = this.#tail.length === 1 ? this.#tail[0].parted : null;
    const from = blocks[growing]?.start ?? (open && blocks.length === 0 ? 0 : text.length);
    this.#settled += from + (parted ? this.#settleParts(parted, from, false) : 0);
  }

  /** Words are noted for their references, and join those that they were cut off from. */
  #settleWords(whole, block, start, { node }, cut) {
    const before = this.#cut;
    const from = before && block.type === "paragraph" && this.#join(before, whole.slice(before.start, start), block.raw, node) ? before : { node, start };
    this.#cut = cut && block.type === "paragraph" ? from : null;
    this.#references.note(whole.slice(from.start, start + block.raw.length), from.start, from.node, (raw) => elementOf(this.#read(raw)));
  }

  /** Makes one paragraph of two pieces; false where they aren't one. */
  #join(before, said, more, node) {
    const raw = said + more;
    const block = raw.length > JOINED_MAX ? null : this.#read(raw);
    if (block?.type !== "paragraph" || block.raw.trimEnd().length < raw.trimEnd().length) return false;
    node.remove();
    if (isKnotty(raw)) before.node.append(/ {2}\n$/.test(said) ? el("br") : "\n", ...node.childNodes); // read as one, it would be words alone
    else amend(before.node, elementOf(block));
    this.#references.forget(before.node);
    return true;
  }

  /** A list or a table ends before its open parts: they have turned out to be something else. */
  #leave(view) {
    view.parted.cut();
    finish(view);
  }

  /** Lets go of items or rows; gives the length of their text, with what belongs to the first of them. */
  #settleParts(parted, start, all) {
    const before = parted.head;
    const parts = parted.settle(all);
    let length = parted.head.length - before.length;
    for (const { raw, node } of parts) {
      const make = (again) => parted.again(this.#read(parted.head + again));
      this.#references.note(raw, this.#settled + start + length, node, make);
      finish({ node });
      length += raw.length;
    }
    return length;
  }

  /** A single block, with the references that are known now. */
  #read(raw) {
    return blocksOf(raw, this.#references.links)[0];
  }

  #place(index, block) {
    const old = this.#tail[index];
    if (block.type === "code") {
      const language = languageOf(block.lang);
      if (old?.code?.language !== language) this.#put(index, { code: new CodeBlock(language) });
      const view = this.#tail[index];
      grow(view.code.content, block.text);
      view.fenced = isOpenFence(block.raw);
      return;
    }
    if (PartedBlock.takes(block)) {
      if (!old?.parted?.fits(block)) this.#put(index, { parted: new PartedBlock(block) });
      this.#tail[index].parted.show(block);
      return;
    }
    const node = elementOf(block) ?? el("p", { hidden: true });
    if (old && !old.code && !old.parted && old.node.nodeName === node.nodeName) amend(old.node, node);
    else this.#put(index, { node });
  }

  #put(index, view) {
    view.node ??= (view.code ?? view.parted).node;
    const old = this.#tail[index];
    if (old) old.node.replaceWith(view.node);
    else this.#root.append(view.node);
    this.#tail[index] = view;
  }

  #findHook(text) {
    const last = this.#tail.at(-1);
    this.#hook = null;
    this.#pending = "";
    if (!last) return;
    if (last.code) {
      this.#pending = text.endsWith("\n") && last.code.content.length > 0 ? "\n" : "";
      return;
    }
    const line = text.slice(text.lastIndexOf("\n") + 1);
    const words = lastText(last.node);
    if (!words?.data.trim() || !PLAIN_IN.has(words.parentNode.nodeName) || UNDECIDED.test(line)) return;
    this.#hook = words;
    this.#pending = text.slice(text.trimEnd().length);
  }
}

/** Where the next piece of a text ends: at a line's end, or a word's, where it can. */
function pieceEnd(text, from) {
  const limit = Math.min(text.length, from + PIECE_CHARS);
  let end = from;
  for (let lines = 0; lines < PIECE_LINES; lines++) {
    const next = text.indexOf("\n", end) + 1;
    if (next === 0 || next > limit) {
      if (limit === text.length) return limit;
      break;
    }
    end = next;
  }
  if (end > from) return end;
  const space = text.lastIndexOf(" ", limit);
  return space > from ? space : limit;
}

/** Whether the block at the end of a text has grown so long that what follows begins another. */
function isFull(text, { block, start }) {
  if (block.type === "code" || !/\s$/.test(text)) return false;
  const most = block.type !== "paragraph" ? BLOCK_MAX : text.endsWith("\n") ? LINES_MAX : PARAGRAPH_MAX;
  return text.length - start > most;
}

/** How much of a growing text can be shown without signs that a moment later are a table's lines, or a reference. */
function decided(text) {
  const last = text.lastIndexOf("\n") + 1;
  if (MAYBE_REFERENCE.test(text.slice(last, last + REFERENCE_MAX))) return last;
  const before = last < 2 ? 0 : text.lastIndexOf("\n", last - 2) + 1;
  const above = before < 2 ? 0 : text.lastIndexOf("\n", before - 2) + 1;
  if (text[last] === "|" && (last === 0 || text[before] !== "|")) return last;
  if (last > 0 && text[before] === "|" && (before === 0 || text[above] !== "|") && MAYBE_TABLE.test(text.slice(before))) return before;
  return EMPTY_ROW.test(text.slice(last)) ? last : text.length;
}

/** The first block that more text may change: the last, or the one before it while the last line is undecided. */
function firstGrowing(text, blocks) {
  const last = blocks.length - 1;
  const line = text.lastIndexOf("\n") + 1;
  const undecided = last > 0 && blocks[last].start >= line && UNDECIDED.test(text.slice(line));
  return Math.max(0, undecided ? last - 1 : last);
}

function isOpenFence(raw) {
  const [head, fence] = FENCE.exec(raw) ?? [];
  if (!fence) return false;
  const code = raw.slice(head.length).trimEnd();
  const last = code.slice(code.lastIndexOf("\n") + 1).trim();
  return !(last.startsWith(fence) && last === fence[0].repeat(last.length));
}

/** What a block gets once it doesn't change any more: colours, a copy button, a frame to scroll in. */
function finish({ node, code, parted }) {
  if (code) code.finish();
  if (code || parted) return; // its parts have got theirs
  for (const pre of node.querySelectorAll("pre[data-language]")) {
    const block = new CodeBlock(pre.dataset.language);
    block.content.data = pre.textContent;
    pre.replaceWith(block.node);
    block.finish();
  }
  for (const table of node.querySelectorAll("table")) framed(table);
}
