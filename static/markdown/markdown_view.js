/**
 * Renders growing Markdown in steps that fit an animation frame.
 *
 * Finished blocks are rendered once, unless a link reference for them follows later. Plain text that extends the open
 * block is appended to its last text node. Only text that may change the block's structure causes another parse, whose
 * result is patched into the page.
 */

import { el } from "../shared/dom.js";
import { lastTextNode, patchDom, setTextData } from "../shared/patch_dom.js";
import { CodeBlock } from "./code_block.js";
import { linkNotes } from "./footnotes.js";
import { IncrementalBlock, scrollBox } from "./incremental_block.js";
import { LinkReferences } from "./link_references.js";
import { fenceLanguage, HEADING_OFFSET, isTooComplex, parseBlocks, renderBlock } from "./markdown.js";

/** A line with only these characters may still become any kind of block. */
const AMBIGUOUS_LINE = /^[\s\dxX.)#>*+\-_`~|:=[\]]*$/;
/** Text that can't change the structure of the line that it extends. */
const PLAIN_TEXT = /^[^\\`*_{}[\]()<>#+!|~:/@&;=$\r\n]*$/;
const PLAIN_TEXT_PARENTS = new Set(["P", "LI", "H3", "H4", "H5", "H6"]);
/**
 * A line that may be the first row of a table, and the beginning of the next line. Until this second line is complete,
 * the first may also be plain text with pipes.
 */
const MAYBE_TABLE = /^\|[^\n]*\n[ :|-]*$/;
/** A single pipe isn't a row yet. */
const EMPTY_ROW = /^\|\s*$/;
/** A longer line is tested for a link reference only up to here. */
const REFERENCE_CHARS_MAX = 300;
/** The start of a line that may become a link reference, also in a quote or a list. References show nothing. */
const MAYBE_REFERENCE = /^(?: *(?:>|[-*+] |\d{1,9}[.)] ))* *\[[^\]]{0,60}(?:\](?::.*)?)?$/;
/** An opening code fence. Until it is closed, everything after it is code. */
const FENCE = /^(`{3,}|~{3,})[^\n]*\n/;
/** After a parse up to the end of a growing text, the next such parse waits this many times the parse's duration. */
const PARSE_REST_FACTOR = 6;
/** The maximum source per step, in characters and in lines, so that each step fits an animation frame. */
const STEP_CHARS = 2_000;
const STEP_LINES = 40;
/**
 * An open block that grows beyond a limit is cut: a paragraph at a line's end (the first limit) or at a word's end (the
 * second), any other block at whitespace (the third). Code is never cut.
 */
const CUT_AT_LINE_CHARS = 3_000;
const CUT_AT_WORD_CHARS = 6_000;
const CUT_BLOCK_CHARS = 12_000;
/** The pieces of a cut paragraph are joined when they are complete, up to this many characters. */
const JOINED_CHARS_MAX = 15_000;
/** More formulas of a text than this are shown as their source. */
const FORMULAS_MAX = 500;

/** Renders Markdown into `root` as the text grows. */
export class MarkdownView {
  #root;
  #shownChars = 0;
  #open = true;
  /** The length of the source whose blocks are finished. */
  #settledChars = 0;
  /**
   * The views of the blocks that aren't finished: `{node}`; for code also `code` and `fenceOpen`; for a list or a table
   * also `incremental`.
   */
  #openViews = [];
  /** The text node that plain text is appended to. Null: new text needs a parse, unless the last block is code. */
  #appendTarget = null;
  /** Whitespace at the end of the text, not shown until text follows it. */
  #pendingSpace = "";
  #nextParseAt = 0;
  /** The level of the last heading. The next heading is at most one level deeper. */
  #headingLevel = HEADING_OFFSET;
  #references = new LinkReferences((node) => this.#decorate(node));
  #formulaCount = 0;
  /**
   * The last paragraph that was cut, and the offset of its source.
   * @type {{node: HTMLElement, start: number} | null}
   */
  #lastCut = null;

  /** @param {HTMLElement} root gets the blocks as children */
  constructor(root) {
    this.#root = root;
  }

  /**
   * Shows a text, which may only grow from call to call.
   * @param {string} source the whole text so far
   * @param {boolean} open more text may follow
   * @param {number} [deadline] a `performance.now()` time; what can't be rendered by then waits for the next call
   * @returns {boolean} false: some text that could be shown isn't shown yet; call again
   */
  update(source, open, deadline = Infinity) {
    const lines = source.includes("\r") ? source.replace(/\r\n?/g, "\n") : source;
    const text = open ? lines.slice(0, decidedLength(lines)) : lines;
    while (this.#shownChars < text.length || this.#open !== open) {
      const end = stepEnd(text, this.#shownChars);
      const more = open || end < text.length;
      if (!more || !this.#append(text.slice(this.#shownChars, end))) {
        const startedAt = performance.now();
        const isCaughtUp = more && end === text.length;
        if (isCaughtUp && startedAt < this.#nextParseAt) return false;
        this.#parse(text, end, more);
        if (isCaughtUp) this.#nextParseAt = performance.now() + (performance.now() - startedAt) * PARSE_REST_FACTOR;
      }
      this.#shownChars = end;
      this.#open = more;
      if (performance.now() > deadline) return end === text.length && more === open;
    }
    return true;
  }

  /** Appends plain text to the last text node. Returns false if the text may change the structure. */
  #append(added) {
    const last = this.#openViews.at(-1);
    if (last?.code) {
      if (!last.fenceOpen || /[`~]/.test(added)) return false;
    } else if (!this.#appendTarget || !PLAIN_TEXT.test(added)) {
      return false;
    }
    const text = this.#pendingSpace + added;
    const visible = last.code ? text.replace(/\n$/, "") : text.trimEnd();
    this.#pendingSpace = text.slice(visible.length);
    if (visible) (last.code ? last.code.content : this.#appendTarget).appendData(visible);
    return true;
  }

  #parse(whole, end, open) {
    const text = whole.slice(this.#settledChars, end);
    const head = this.#openViews[0]?.incremental?.head ?? "";
    const blocks = [];
    let offset = -head.length;
    let level = this.#headingLevel;
    for (const block of parseBlocks(head + text, this.#references.links, open)) {
      if (block.type === "heading") block.level = level = Math.min(6, block.depth + HEADING_OFFSET, level + 1);
      if (block.type !== "space" && block.type !== "def") blocks.push({ block, start: Math.max(0, offset), level });
      offset += block.raw.length;
    }
    if (this.#openViews[0]?.incremental?.settledCount && !this.#openViews[0].incremental.isContinuation(blocks[0]?.block)) this.#dropOpenItems(this.#openViews.shift());
    for (const [index, { block }] of blocks.entries()) this.#renderAt(index, block);
    for (const { node } of this.#openViews.splice(blocks.length)) node.remove();
    this.#settle(whole, text, blocks, open);
    this.#references.resolve(whole);
    this.#findAppendTarget(text);
  }

  /** Finishes the blocks that more text can't change. */
  #settle(whole, text, blocks, open) {
    let firstOpen = open ? firstOpenBlock(text, blocks) : blocks.length;
    const isCut = firstOpen === blocks.length - 1 && shouldCut(text, blocks[firstOpen]);
    if (isCut) firstOpen++;
    for (const [index, view] of this.#openViews.splice(0, firstOpen).entries()) {
      const { block, start, level } = blocks[index];
      this.#headingLevel = level;
      if (view.incremental) this.#settleItems(view.incremental, start, true);
      else if (!view.code) this.#settleText(whole, block, this.#settledChars + start, view, isCut && index === firstOpen - 1);
      this.#finish(view);
    }
    const incremental = this.#openViews.length === 1 ? this.#openViews[0].incremental : null;
    const from = blocks[firstOpen]?.start ?? (open && blocks.length === 0 ? 0 : text.length);
    this.#settledChars += from + (incremental ? this.#settleItems(incremental, from, false) : 0);
  }

  /** Tracks a finished block for later link references. If it continues a cut paragraph, joins the two first. */
  #settleText(whole, block, start, { node }, cut) {
    const before = this.#lastCut;
    const from = before && block.type === "paragraph" && this.#joinPieces(before, whole.slice(before.start, start), block.raw, node) ? before : { node, start };
    this.#lastCut = cut && block.type === "paragraph" ? from : null;
    this.#references.track(whole.slice(from.start, start + block.raw.length), from.start, from.node, (raw) => renderBlock(this.#parseOne(raw)));
  }

  /** Joins two pieces into one paragraph. Returns false if they don't form one. */
  #joinPieces(before, source, more, node) {
    const raw = source + more;
    const block = raw.length > JOINED_CHARS_MAX ? null : this.#parseOne(raw);
    if (block?.type !== "paragraph" || block.raw.trimEnd().length < raw.trimEnd().length) return false;
    node.remove();
    // Parsed as a whole, a text that is too complex loses the markup that spans lines.
    if (isTooComplex(raw)) before.node.append(/ {2}\n$/.test(source) ? el("br") : "\n", ...node.childNodes);
    else patchDom(before.node, renderBlock(block));
    this.#decorate(before.node);
    this.#references.untrack(before.node);
    return true;
  }

  /** Ends a list or a table without its open items: the new text made them something else. */
  #dropOpenItems(view) {
    view.incremental.removeOpenItems();
    this.#finish(view);
  }

  /** Finishes items or rows. Returns the length of their source, with the table's head if these are its first rows. */
  #settleItems(incremental, start, all) {
    const before = incremental.head;
    const items = incremental.settle(all);
    let length = incremental.head.length - before.length;
    for (const { raw, node } of items) {
      const render = (itemSource) => incremental.renderItem(this.#parseOne(incremental.head + itemSource));
      this.#references.track(raw, this.#settledChars + start + length, node, render);
      this.#finish({ node });
      length += raw.length;
    }
    return length;
  }

  /** Completes a finished block: highlighting, copy buttons, boxes in which tables scroll, formulas, footnotes. */
  #finish(view) {
    finish(view);
    if (!view.code && !view.incremental) this.#decorate(view.node);
  }

  /** Renders the formulas of a finished node, and links its footnotes. */
  #decorate(node) {
    linkNotes(node);
    const formulas = [...node.querySelectorAll("code[data-math]")].slice(0, FORMULAS_MAX - this.#formulaCount);
    if (formulas.length === 0) return;
    this.#formulaCount += formulas.length;
    import("./math_view.js").then(({ renderFormulas }) => renderFormulas(formulas), () => {}); // else the source stays
  }

  /** Parses a single block with the link references so far. */
  #parseOne(raw) {
    return parseBlocks(raw, this.#references.links)[0];
  }

  #renderAt(index, block) {
    const old = this.#openViews[index];
    if (block.type === "code") {
      const language = fenceLanguage(block.lang);
      if (old?.code?.language !== language) this.#setView(index, { code: new CodeBlock(language) });
      const view = this.#openViews[index];
      setTextData(view.code.content, block.text);
      view.fenceOpen = isOpenFence(block.raw);
      return;
    }
    if (IncrementalBlock.supports(block)) {
      if (!old?.incremental?.isContinuation(block)) this.#setView(index, { incremental: new IncrementalBlock(block) });
      this.#openViews[index].incremental.update(block);
      return;
    }
    const node = renderBlock(block) ?? el("p", { hidden: true });
    if (old && !old.code && !old.incremental && old.node.nodeName === node.nodeName) patchDom(old.node, node);
    else this.#setView(index, { node });
  }

  #setView(index, view) {
    view.node ??= (view.code ?? view.incremental).node;
    const old = this.#openViews[index];
    if (old) old.node.replaceWith(view.node);
    else this.#root.append(view.node);
    this.#openViews[index] = view;
  }

  #findAppendTarget(text) {
    const last = this.#openViews.at(-1);
    this.#appendTarget = null;
    this.#pendingSpace = "";
    if (!last) return;
    if (last.code) {
      this.#pendingSpace = text.endsWith("\n") && last.code.content.length > 0 ? "\n" : "";
      return;
    }
    const line = text.slice(text.lastIndexOf("\n") + 1);
    const textNode = lastTextNode(last.node);
    if (!textNode?.data.trim() || !PLAIN_TEXT_PARENTS.has(textNode.parentNode.nodeName) || AMBIGUOUS_LINE.test(line)) return;
    this.#appendTarget = textNode;
    this.#pendingSpace = text.slice(text.trimEnd().length);
  }
}

/** Returns where the next step ends: at the text's or a line's end if possible, else at a word's end or the limit. */
function stepEnd(text, from) {
  const limit = Math.min(text.length, from + STEP_CHARS);
  let end = from;
  for (let lines = 0; lines < STEP_LINES; lines++) {
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

/** Returns whether the last block is so long that the text after it starts a new one. */
function shouldCut(text, { block, start }) {
  if (block.type === "code" || !/\s$/.test(text)) return false;
  const limit = block.type !== "paragraph" ? CUT_BLOCK_CHARS : text.endsWith("\n") ? CUT_AT_LINE_CHARS : CUT_AT_WORD_CHARS;
  return text.length - start > limit;
}

/** Returns how much of a growing text to show: without lines that may become part of a table or a link reference. */
function decidedLength(text) {
  const last = text.lastIndexOf("\n") + 1;
  if (MAYBE_REFERENCE.test(text.slice(last, last + REFERENCE_CHARS_MAX))) return last;
  const before = last < 2 ? 0 : text.lastIndexOf("\n", last - 2) + 1;
  const twoBefore = before < 2 ? 0 : text.lastIndexOf("\n", before - 2) + 1;
  if (text[last] === "|" && (last === 0 || text[before] !== "|")) return last;
  if (last > 0 && text[before] === "|" && (before === 0 || text[twoBefore] !== "|") && MAYBE_TABLE.test(text.slice(before))) return before;
  return EMPTY_ROW.test(text.slice(last)) ? last : text.length;
}

/**
 * Returns the index of the first block that more text may change: the last, or the one before it while the last line is
 * ambiguous.
 */
function firstOpenBlock(text, blocks) {
  const last = blocks.length - 1;
  const line = text.lastIndexOf("\n") + 1;
  const isLineOpen = blocks[last]?.start >= line && AMBIGUOUS_LINE.test(text.slice(line));
  const ambiguous = last > 0 && (isLineOpen || blocks[last].block.pending);
  return Math.max(0, ambiguous ? last - 1 : last);
}

function isOpenFence(raw) {
  const [head, fence] = FENCE.exec(raw) ?? [];
  if (!fence) return false;
  const code = raw.slice(head.length).trimEnd();
  const last = code.slice(code.lastIndexOf("\n") + 1).trim();
  return !(last.startsWith(fence) && last === fence[0].repeat(last.length));
}

function finish({ node, code, incremental }) {
  if (code) code.finish();
  if (code || incremental) return; // the items of a list or table are already finished
  for (const pre of node.querySelectorAll("pre[data-language]")) {
    const block = new CodeBlock(pre.dataset.language);
    block.content.data = pre.textContent;
    pre.replaceWith(block.node);
    block.finish();
  }
  for (const table of node.querySelectorAll("table")) scrollBox(table);
}
