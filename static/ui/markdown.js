/**
 * Markdown to DOM, for words that nobody vouches for: no raw HTML, no images, https: and mailto: links only. What marked
 * makes of it goes through DOMPurify all the same, with a short list of allowed tags and attributes.
 */

import { Marked } from "../vendor/marked.js";
import DOMPurify from "../vendor/purify.js";

const LINK = /^(?:https:\/\/|mailto:)/i;
/** A block nested so deep that no parser gets to its ground: its words are shown as they are. */
const UNREADABLE = "unreadable";
const HEADING_SHIFT = 2; // the page's own headings end at h2

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
const DIRECTED = new Set(["P", "LI", "BLOCKQUOTE", "H3", "H4", "H5", "H6", "TH", "TD"]);
/** Their own direction follows their first words, and the browser doesn't look for those in what has one itself. */
const DIRECTING = new Set(["LI", "BLOCKQUOTE"]);

const purify = DOMPurify(window);
purify.addHook("afterSanitizeAttributes", (node) => {
  if (DIRECTED.has(node.nodeName) && !(node.nodeName === "P" && DIRECTING.has(node.parentNode?.nodeName))) node.setAttribute("dir", "auto");
  if (node.nodeName !== "A" || !node.hasAttribute("href")) return;
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer nofollow");
});

const marked = new Marked({
  gfm: true,
  tokenizer: {
    html: () => undefined, // nothing is HTML here: a tag is text like any other
    tag: () => undefined,
  },
  renderer: {
    html: ({ text }) => escaped(text),
    heading({ tokens, depth }) {
      const tag = `h${Math.min(6, depth + HEADING_SHIFT)}`;
      return `<${tag}>${this.parser.parseInline(tokens)}</${tag}>`;
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

/**
 * The blocks of a text; the `raw` of all of them joined is the text.
 * @param {string} text
 * @returns {{type: string, raw: string, text?: string, lang?: string}[]}
 */
export function blocksOf(text) {
  try {
    return marked.lexer(text);
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

/** Highlighted code, from highlight.js's markup, as nodes. */
export function codeNodes(markup) {
  return purify.sanitize(markup, { ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"], RETURN_DOM_FRAGMENT: true });
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
