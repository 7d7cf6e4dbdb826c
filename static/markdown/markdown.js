/**
 * Renders untrusted Markdown to DOM: no raw HTML, no images, and only https: and mailto: links. The output of marked
 * also passes through DOMPurify with a short list of allowed tags and attributes.
 */

import { Lexer, Marked, Tokenizer } from "../vendor/marked.js";
import DOMPurify from "../vendor/purify.js";
import { footnoteExtensions, numberNotes } from "./footnotes.js";
import { escapeHtml, mathExtensions } from "./math_text.js";

const LINK = /^(?:https:\/\/|mailto:)/i;
/** If the parser fails on a text, the whole text becomes one block of this type. Its source is shown as text. */
const UNPARSED = "unparsed";
/** Added to the level of each heading, because the page itself uses h1 and h2. */
export const HEADING_OFFSET = 2;
/** Characters with a possible inline meaning. The parser's time may be quadratic in their number. */
const MARKERS = /[[\]!*_~`<\\&@$]/g;
/** A text with more of these is parsed line by line. A line with more of these is shown as text. */
const MARKERS_MAX = 1_000;
/** Types of blocks that contain blocks. */
const CONTAINERS = new Set(["list", "list_item", "blockquote"]);
/** The maximum nesting of lists and quotes. Anything deeper is shown as text. */
const DEPTH_MAX = 16;

const CONFIG = {
  ALLOWED_TAGS: ["p", "br", "strong", "em", "del", "code", "pre", "ul", "ol", "li", "blockquote", "hr", "a", "sup",
    "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"],
  ALLOWED_ATTR: ["href", "start", "align", "data-language", "data-math", "data-note", "data-footnote"],
  /** Their values aren't URLs. */
  ADD_URI_SAFE_ATTR: ["data-language", "data-math", "data-note", "data-footnote"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  ALLOWED_URI_REGEXP: LINK,
  KEEP_CONTENT: true,
  RETURN_DOM_FRAGMENT: true,
};
const WITH_DIRECTION = new Set(["P", "LI", "BLOCKQUOTE", "H3", "H4", "H5", "H6", "TABLE"]);
/**
 * Elements whose direction follows their first words. A paragraph in them gets no `dir`, because with one the browser
 * would ignore its words when it chooses the direction of the outer element.
 */
const DIRECTION_FROM_WORDS = new Set(["LI", "BLOCKQUOTE"]);

const purify = DOMPurify(window);
purify.addHook("afterSanitizeAttributes", (node) => {
  if (WITH_DIRECTION.has(node.nodeName) && !(node.nodeName === "P" && DIRECTION_FROM_WORDS.has(node.parentNode?.nodeName))) node.setAttribute("dir", "auto");
  if (node.nodeName !== "A" || !node.hasAttribute("href")) return;
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer nofollow");
});

/** A lexer whose time for the inline content of a block is bounded. */
class BoundedLexer extends Lexer {
  /**
   * Works as `lex`, except that a link reference (`[name]: https://…`) counts only when it is complete: other content
   * follows it, or the text has ended. References inside lists and quotes count too.
   * @param {string} text
   * @param {object} links gets the references of this text
   * @param {boolean} open more text may follow
   */
  lexBlocks(text, links, open) {
    this.blockTokens(text, this.tokens);
    const leaves = leafBlocks(this.tokens);
    const last = leaves.findLastIndex(({ type }) => type !== "space" && type !== "def");
    const counts = (index) => index < last || !open;
    for (const [index, { type, tag, href, title }] of leaves.entries()) {
      if (type === "def" && counts(index)) links[tag] ??= { href, title };
    }
    numberNotes(leaves, links, counts);
    this.tokens.links = links;
    for (const { src, tokens } of this.inlineQueue) this.inlineTokens(src, tokens);
    return this.tokens;
  }

  inlineTokens(text, tokens = []) {
    if (isTooComplex(text)) for (const line of text.split(/(?<=\n)/)) this.#lexLine(line, tokens);
    else super.inlineTokens(text, tokens);
    return tokens;
  }

  #lexLine(line, tokens) {
    if (isTooComplex(line)) tokens.push({ type: "text", raw: line, text: line });
    else super.inlineTokens(line, tokens);
    if (/(?: {2}|\\)\n$/.test(line)) tokens.push({ type: "br", raw: "" });
  }
}

/** Returns the blocks that contain no other blocks, in order. */
function leafBlocks(blocks) {
  return blocks.flatMap((block) => (CONTAINERS.has(block.type) ? leafBlocks(block.items ?? block.tokens) : [block]));
}

let depth = 0;

/** Wraps a tokenizer so that it ignores blocks nested deeper than DEPTH_MAX. */
function limitDepth(tokenize) {
  return function (text) {
    if (depth >= DEPTH_MAX) return undefined;
    depth++;
    try {
      return tokenize.call(this, text);
    } finally {
      depth--;
    }
  };
}

const marked = new Marked({
  gfm: true,
  extensions: [...mathExtensions, ...footnoteExtensions],
  tokenizer: {
    list: limitDepth(Tokenizer.prototype.list),
    blockquote: limitDepth(Tokenizer.prototype.blockquote),
    html: () => undefined, // a tag is text like any other
    tag: () => undefined,
  },
  renderer: {
    html: ({ text }) => escapeHtml(text),
    heading({ tokens, depth, level = Math.min(6, depth + HEADING_OFFSET) }) {
      const tag = `h${level}`;
      return `<${tag}>${this.parser.parseInline(tokens)}</${tag}>`;
    },
    paragraph({ tokens }) {
      return `<p>${this.parser.parseInline(tokens)}</p>`;
    },
    code: ({ text, lang }) => `<pre data-language="${escapeHtml(fenceLanguage(lang))}"><code>${escapeHtml(text)}</code></pre>`,
    link({ href, tokens }) {
      const content = this.parser.parseInline(tokens);
      return LINK.test(href) ? `<a href="${escapeHtml(href)}">${content}</a>` : content;
    },
    // Loading a remote image would tell its host who reads the message. A link is followed on purpose.
    image: ({ href, text }) => (LINK.test(href) ? `<a href="${escapeHtml(href)}">${escapeHtml(text || href)}</a>` : escapeHtml(text)),
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
  },
});

/** Returns whether a text has too many characters with a possible inline meaning. */
export function isTooComplex(text) {
  return text.length > MARKERS_MAX && text.match(MARKERS)?.length > MARKERS_MAX;
}

/**
 * Parses a text into blocks. The `raw` of all blocks joined is the text.
 * @param {string} text without carriage returns
 * @param {object} links the link references so far; gets those of this text
 * @param {boolean} [open] more text may follow
 * @returns {{type: string, raw: string, text?: string, lang?: string}[]}
 */
export function parseBlocks(text, links, open = false) {
  try {
    return new BoundedLexer(marked.defaults).lexBlocks(text, links, open);
  } catch {
    return [{ type: UNPARSED, raw: text }];
  }
}

/** Renders one block as an element; null if it shows nothing. */
export function renderBlock(block) {
  if (block.type === UNPARSED) return plainParagraph(block);
  try {
    return purify.sanitize(marked.parser([block]), CONFIG).firstElementChild;
  } catch {
    return plainParagraph(block);
  }
}

/** Returns the language that a fence names: its first word. */
export function fenceLanguage(lang) {
  return (lang ?? "").trim().split(/\s+/)[0].slice(0, 30);
}

function plainParagraph({ raw }) {
  const node = document.createElement("p");
  node.dir = "auto";
  node.textContent = raw;
  return node;
}
