/**
 * Shows growing markdown. Finished blocks are made once and never touched again; plain words that come to the open block
 * are appended to its last text node; only what may change its shape makes it be parsed anew, and then it is amended.
 */

import { CodeBlock } from "./code_block.js";
import { amend, grow, lastText } from "./amend.js";
import { el } from "./dom.js";
import { blocksOf, elementOf, languageOf } from "./markdown.js";

/** A line of only these may still turn out to be any kind of block. */
const UNDECIDED = /^[\s\d.)#>*+\-_`~|:=[\]]*$/;
/** Characters that can't change the shape of the line that they continue. */
const PLAIN = /^[^\\`*_{}[\]()<>#+!|~:/@&;=\r\n]*$/;
const PLAIN_IN = new Set(["P", "LI", "TD", "H3", "H4", "H5", "H6"]);
/** The first line of a table may be plain words with pipes until its second line is whole, and a pipe alone is no row. */
const MAYBE_TABLE = /^\|[^\n]*\n[ :|-]*$/;
const EMPTY_ROW = /^\|\s*$/;
/** A fence that isn't closed yet: what comes is code, whatever it looks like. */
const FENCE = /^(`{3,}|~{3,})[^\n]*\n/;
const REFERENCE = /^ {0,3}\[[^\]\n]+\]:/m;
/** A parse that took long is not repeated before that many times its duration has passed. */
const REST = 6;

/** Appends markdown to `root` as its text grows. */
export class MarkdownView {
  #root;
  #text = "";
  #open = true;
  #settled = 0;
  #tail = [];
  #hook = null;
  #pending = "";
  #restUntil = 0;

  /** @param {HTMLElement} root gets the blocks as children */
  constructor(root) {
    this.#root = root;
  }

  /**
   * Shows a text. It may only grow from call to call.
   * @param {string} said the whole text so far
   * @param {boolean} open more may follow
   * @returns {boolean} false: not yet shown, as parsing has taken too long lately; call again
   */
  update(said, open) {
    const text = open ? said.slice(0, decided(said)) : said;
    if (text.length === this.#text.length && open === this.#open) return true;
    const added = text.slice(this.#text.length);
    if (!open || !this.#append(added)) {
      const startedAt = performance.now();
      if (open && startedAt < this.#restUntil) return false;
      if (!open && REFERENCE.test(text)) this.#startOver();
      this.#parse(text.slice(this.#settled), open);
      this.#restUntil = performance.now() + (performance.now() - startedAt) * REST;
    }
    this.#text = text;
    this.#open = open;
    return true;
  }

  #startOver() {
    this.#root.replaceChildren();
    this.#tail = [];
    this.#settled = 0;
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

  #parse(text, open) {
    const blocks = [];
    let at = 0;
    for (const block of blocksOf(text)) {
      if (block.type !== "space" && block.type !== "def") blocks.push({ block, start: at });
      at += block.raw.length;
    }
    for (const [index, { block }] of blocks.entries()) this.#place(index, block);
    for (const { node } of this.#tail.splice(blocks.length)) node.remove();
    const growing = open ? firstGrowing(text, blocks) : blocks.length;
    for (const view of this.#tail.splice(0, growing)) finish(view);
    this.#settled += blocks[growing]?.start ?? (open ? 0 : text.length);
    this.#findHook(text);
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
    const node = elementOf(block) ?? el("p", { hidden: true });
    if (old && !old.code && old.node.nodeName === node.nodeName) amend(old.node, node);
    else this.#put(index, { node });
  }

  #put(index, view) {
    view.node ??= view.code.node;
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
    if (!words || !PLAIN_IN.has(words.parentNode.nodeName) || UNDECIDED.test(line)) return;
    this.#hook = words;
    this.#pending = text.slice(text.trimEnd().length);
  }
}

/** How much of a growing text can be shown without pipes that a moment later are a table's lines. */
function decided(text) {
  const last = text.lastIndexOf("\n") + 1;
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
function finish({ node, code }) {
  if (code) code.finish();
  else if (node.nodeName === "TABLE") frame(node);
  for (const pre of node.querySelectorAll("pre[data-language]")) {
    const block = new CodeBlock(pre.dataset.language);
    block.content.data = pre.textContent;
    pre.replaceWith(block.node);
    block.finish();
  }
  for (const table of node.querySelectorAll("table")) frame(table);
}

function frame(table) {
  const outer = el("div", { class: "table", tabindex: "0", role: "group", "aria-label": "Table" });
  table.replaceWith(outer);
  outer.append(table);
}
