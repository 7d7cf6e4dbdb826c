/**
 * Shows growing markdown. Finished blocks are made once and never touched again; only the last block is parsed anew,
 * and an open code block only gets the text that is new.
 */

import { el, icon } from "./dom.js";
import { parseBlocks, parseInline } from "./markdown.js";

const COPIED_FOR_MS = 1_600;

/** Appends markdown to `root` as its text grows. */
export class MarkdownView {
  #root;
  #settled = 0;
  #tail = null;
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
    const parsed = parseBlocks(text.slice(this.#settled));
    if (parsed.length === 0) return;
    const base = this.#settled;
    for (const { block } of parsed.slice(0, -1)) {
      this.#place(block, false);
      this.#tail = null; // final: the next block gets a place of its own
    }
    const last = parsed.at(-1);
    this.#settled = base + last.start;
    this.#place(last.block, open);
  }

  #clear() {
    this.#root.replaceChildren();
    this.#settled = 0;
    this.#tail = null;
  }

  #place(block, open) {
    if (this.#tail?.kind === "code" && block.kind === "code" && this.#tail.language === block.language) {
      this.#tail.grow(block.text);
      return;
    }
    const made = block.kind === "code" ? codeBlock(block) : { kind: block.kind, node: blockNode(block, open) };
    if (this.#tail) this.#tail.node.replaceWith(made.node);
    else this.#root.append(made.node);
    this.#tail = made;
  }
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
