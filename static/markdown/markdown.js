/**
 * Markdown to DOM, for words that nobody vouches for: no raw HTML, no images, https: and mailto: links only. What marked
 * makes of it goes through DOMPurify all the same, with a short list of allowed tags and attributes.
 */

import { Lexer, Marked, Tokenizer } from "../vendor/marked.js";
import DOMPurify from "../vendor/purify.js";

const LINK = /^(?:https:\/\/|mailto:)/i;
/** A block nested so deep that no parser gets to its ground: its words are shown as they are. */
const UNREADABLE = "unreadable";
/** The page's own headings end at h2. */
export const HEADING_ABOVE = 2;
/** Characters that mean something inside of words. For more of them in one paragraph a parser would look again and again. */
const KNOTS = /[[\]!*_~`<\\&@]/g;
const KNOTS_MAX = 1_000;
/** What holds blocks itself. */
const NESTING = new Set(["list", "list_item", "blockquote"]);
/** Lists and quotes in each other; what lies deeper is words. */
const DEPTH_MAX = 16;

const CONFIG = {
  ALLOWED_TAGS: ["p", "br", "strong", "em", "del", "code", "pre", "ul", "ol", "li", "blockquote", "hr", "a",
    "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"],
  ALLOWED_ATTR: ["href", "start", "align", "data-language"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  ALLOWED_URI_REGEXP: LINK,
  KEEP_CONTENT: true,
  RETURN_DOM_FRAGMENT: true,
};
const DIRECTED = new Set(["P", "LI", "BLOCKQUOTE", "H3", "H4", "H5", "H6", "TABLE"]);
/** Their own direction follows their first words, and the browser doesn't look for those in what has one itself. */
const DIRECTING = new Set(["LI", "BLOCKQUOTE"]);

const purify = DOMPurify(window);
purify.addHook("afterSanitizeAttributes", (node) => {
  if (DIRECTED.has(node.nodeName) && !(node.nodeName === "P" && DIRECTING.has(node.parentNode?.nodeName))) node.setAttribute("dir", "auto");
  if (node.nodeName !== "A" || !node.hasAttribute("href")) return;
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer nofollow");
});

/** Reads what is inside of a block in a time that is bounded. */
class BoundedLexer extends Lexer {
  /**
   * As `lex`, but a reference counts only once it is whole: behind it there is something else, or nothing more comes. It
   * may stand in a list or a quote.
   */
  read(text, links, open) {
    this.blockTokens(text, this.tokens);
    const inner = leavesOf(this.tokens);
    const last = inner.findLastIndex(({ type }) => type !== "space" && type !== "def");
    for (const [index, { type, tag, href, title }] of inner.entries()) {
      if (type === "def" && (index < last || !open)) links[tag] ??= { href, title };
    }
    this.tokens.links = links;
    for (const { src, tokens } of this.inlineQueue) this.inlineTokens(src, tokens);
    return this.tokens;
  }

  inlineTokens(text, tokens = []) {
    if (isKnotty(text)) for (const line of text.split(/(?<=\n)/)) this.#line(line, tokens);
    else super.inlineTokens(text, tokens);
    return tokens;
  }

  #line(line, tokens) {
    if (isKnotty(line)) tokens.push({ type: "text", raw: line, text: line });
    else super.inlineTokens(line, tokens);
    if (/(?: {2}|\\)\n$/.test(line)) tokens.push({ type: "br", raw: "" });
  }
}

/** The blocks that hold no others, as they follow each other. */
function leavesOf(blocks) {
  return blocks.flatMap((block) => (NESTING.has(block.type) ? leavesOf(block.items ?? block.tokens) : [block]));
}

let depth = 0;

/** What holds blocks itself is read only so deep. */
function bounded(read) {
  return function (text) {
    if (depth >= DEPTH_MAX) return undefined;
    depth++;
    try {
      return read.call(this, text);
    } finally {
      depth--;
    }
  };
}

const marked = new Marked({
  gfm: true,
  tokenizer: {
    list: bounded(Tokenizer.prototype.list),
    blockquote: bounded(Tokenizer.prototype.blockquote),
    html: () => undefined, // nothing is HTML here: a tag is text like any other
    tag: () => undefined,
  },
  renderer: {
    html: ({ text }) => escaped(text),
    heading({ tokens, depth, level = Math.min(6, depth + HEADING_ABOVE) }) {
      const tag = `h${level}`;
      return `<${tag}>${this.parser.parseInline(tokens)}</${tag}>`;
    },
    paragraph({ tokens }) {
      return `<p>${this.parser.parseInline(tokens)}</p>`;
    },
    code: ({ text, lang }) => `<pre data-language="${escaped(languageOf(lang))}"><code>${escaped(text)}</code></pre>`,
    link({ href, tokens }) {
      const words = this.parser.parseInline(tokens);
      return LINK.test(href) ? `<a href="${escaped(href)}">${words}</a>` : words;
    },
    // A remote image would tell its host that this was read: it is a link to follow on purpose.
    image: ({ href, text }) => (LINK.test(href) ? `<a href="${escaped(href)}">${escaped(text || href)}</a>` : escaped(text)),
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
  },
});

/** Whether a text has too much in it that may mean something. */
export function isKnotty(text) {
  return text.length > KNOTS_MAX && text.match(KNOTS)?.length > KNOTS_MAX;
}

/**
 * The blocks of a text; the `raw` of all of them joined is the text.
 * @param {string} text without carriage returns
 * @param {object} links the references that were met before; gets those of this text
 * @param {boolean} [open] more may follow
 * @returns {{type: string, raw: string, text?: string, lang?: string}[]}
 */
export function blocksOf(text, links, open = false) {
  try {
    return new BoundedLexer(marked.defaults).read(text, links, open);
  } catch {
    return [{ type: UNREADABLE, raw: text }];
  }
}

/** One block as an element; null where it shows nothing. */
export function elementOf(block) {
  if (block.type === UNREADABLE) return plain(block);
  try {
    return purify.sanitize(marked.parser([block]), CONFIG).firstElementChild;
  } catch {
    return plain(block);
  }
}

/** The language that a fence names: its first word. */
export function languageOf(lang) {
  return (lang ?? "").trim().split(/\s+/)[0].slice(0, 30);
}

function plain({ raw }) {
  const node = document.createElement("p");
  node.dir = "auto";
  node.textContent = raw;
  return node;
}

function escaped(text) {
  return text.replace(/[&<>"']/g, (character) => `&#${character.codePointAt(0)};`);
}
