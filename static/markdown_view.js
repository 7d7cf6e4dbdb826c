/**
 * Shows growing markdown. Finished blocks are made once and never touched again; only the last block is parsed anew,
 * and an open code block only gets the text that is new.
 */

import { el, icon } from "./dom.js";
import { parseBlocks, parseInline } from "./markdown.js";

const COPIED_FOR_MS = 1_600;

/** A line of only these may still turn out to be any kind of block. */
const UNDECIDED = /^[\s\d.)#>*+\-_`~|:]*$/;

/** Appends markdown to `root` as its text grows. */
export class MarkdownView {
  #root;
  #settled = 0;
  #tail = [];
  #shown = "";

  /** @param {HTMLElement} root gets the blocks as children */
  constructor(root) {
    this.#root = root;
  }

  /**
   * Shows `text`. It may only grow from call to call; anything else starts over.
   * @param {string} text the whole text so far
   * @param {boolean} open more may follow
   */
  update(text, open) {
    if (!text.startsWith(this.#shown)) this.#clear();
    this.#shown = text;
    const rest = text.slice(this.#settled);
    const parsed = parseBlocks(rest);
    if (parsed.length === 0) return;
    for (const [index, { block }] of parsed.entries()) this.#place(index, block, open && index === parsed.length - 1);
    for (const { node } of this.#tail.splice(parsed.length)) node.remove();
    const growing = firstGrowing(rest, parsed, open);
    this.#tail.splice(0, growing);
    this.#settled += parsed[growing].start;
  }

  #clear() {
    this.#root.replaceChildren();
    this.#settled = 0;
    this.#tail = [];
  }

  #place(index, block, open) {
    const old = this.#tail[index];
    if (old?.kind === "code" && block.kind === "code" && old.language === block.language) {
      old.grow(block.text);
      return;
    }
    const made = block.kind === "code" ? codeBlock(block) : { kind: block.kind, node: blockNode(block, open) };
    if (old) old.node.replaceWith(made.node);
    else this.#root.append(made.node);
    this.#tail[index] = made;
  }
}

/** The first block that more text may change: the last, or the one before it while the last line is undecided. */
function firstGrowing(text, parsed, open) {
  const last = parsed.length - 1;
  const line = text.lastIndexOf("\n") + 1;
  const undecided = open && parsed[last].start >= line && UNDECIDED.test(text.slice(line));
  return undecided ? Math.max(0, last - 1) : last;
}

function blockNode(block, open) {
  switch (block.kind) {
    case "heading":
      // The page's own headings end at h2.
      return inline(el(`h${Math.min(6, block.level + 2)}`, { dir: "auto" }), block.text, open);
    case "rule":
      return el("hr");
    case "code":
      return codeBlock(block).node;
    case "quote":
      return el("blockquote", { dir: "auto" }, ...block.blocks.map((inner) => blockNode(inner, open)));
    case "list":
      return listNode(block, open);
    case "table":
      return tableNode(block);
    default:
      return inline(el("p", { dir: "auto" }), block.text, open);
  }
}

function listNode({ ordered, start, items }, open) {
  const list = el(ordered ? "ol" : "ul", { dir: "auto", start: ordered && start !== 1 && start });
  for (const [index, blocks] of items.entries()) {
    const growing = open && index === items.length - 1;
    const item = el("li", { dir: "auto" });
    for (const block of blocks) {
      if (block.kind === "paragraph" && blocks[0] === block) inline(item, block.text, growing);
      else item.append(blockNode(block, growing));
    }
    list.append(item);
  }
  return list;
}

function tableNode({ head, rows }) {
  const row = (cells, tag) => el("tr", {}, ...head.map((_, column) => inline(el(tag, { dir: "auto" }), cells[column] ?? "", false)));
  const table = el("table", {}, el("thead", {}, row(head, "th")), el("tbody", {}, ...rows.map((cells) => row(cells, "td"))));
  return el("div", { class: "table", tabindex: "0", role: "group", "aria-label": "Table" }, table);
}

function codeBlock({ language, text }) {
  const content = document.createTextNode(text);
  const copy = el("button", { type: "button", class: "copy", "aria-label": "Copy code" }, icon("copy"), el("span", { text: "Copy" }));
  copy.addEventListener("click", () => void copyText(copy, content.data));
  const bar = el("div", { class: "code-bar" }, el("span", { class: "language", text: language || "text" }));
  if (navigator.clipboard) bar.append(copy);
  const pre = el("pre", { dir: "ltr", tabindex: "0", "aria-label": `Code, ${language || "text"}`, role: "group" }, el("code", {}, content));
  const grow = (longer) => {
    if (longer.startsWith(content.data)) content.appendData(longer.slice(content.length));
    else content.data = longer;
  };
  return { kind: "code", language, node: el("div", { class: "code" }, bar, pre), grow };
}

async function copyText(button, text) {
  const label = button.querySelector("span");
  try {
    await navigator.clipboard.writeText(text);
    label.textContent = "Copied";
  } catch {
    label.textContent = "Not allowed";
  }
  setTimeout(() => (label.textContent = "Copy"), COPIED_FOR_MS);
}

function inline(parent, text, open) {
  parent.append(...parseInline(text, open).map(spanNode));
  return parent;
}

function spanNode(span) {
  switch (span.kind) {
    case "strong":
      return el("strong", {}, ...span.spans.map(spanNode));
    case "emphasis":
      return el("em", {}, ...span.spans.map(spanNode));
    case "code":
      return el("code", { dir: "auto", text: span.text });
    case "break":
      return el("br");
    case "link":
      return el("a", { href: span.href, rel: "noopener noreferrer nofollow", target: "_blank" }, ...span.spans.map(spanNode));
    default:
      return document.createTextNode(span.text);
  }
}
