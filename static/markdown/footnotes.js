/**
 * Footnotes: `[^name]` in the text, and `[^name]: …` for the note, which is shown where it is written. A reference without a
 * note stays text. The notes are numbered in their order.
 */

import { el } from "../shared/dom.js";

const REFERENCE = /^\[\^([^\s[\]^]{1,40})\]/;
const NOTE = /^ {0,3}\[\^([^\s[\]^]{1,40})\]:[ \t]*/;

const reference = {
  name: "noteReference",
  level: "inline",
  start: (text) => {
    const index = text.indexOf("[^");
    return index < 0 ? undefined : index;
  },
  tokenizer(text) {
    const [raw, name] = REFERENCE.exec(text) ?? [];
    const note = raw && this.lexer.tokens.links[keyOf(name)];
    return note?.number ? { type: "noteReference", raw, number: note.number } : undefined;
  },
  renderer: ({ number }) => `<sup data-note="${number}">${number}</sup>`,
};

const note = {
  name: "note",
  level: "block",
  tokenizer(text) {
    const [head, name] = NOTE.exec(text) ?? [];
    if (!head) return undefined;
    const lines = text.split("\n", 30);
    let count = 1;
    while (count < lines.length && lines[count].trim() && !NOTE.test(lines[count])) count++;
    let raw = lines.slice(0, count).join("\n");
    if (text[raw.length] === "\n") raw += "\n";
    const token = { type: "note", raw, tag: keyOf(name), tokens: [] };
    this.lexer.inline(raw.slice(head.length).trimEnd(), token.tokens);
    return token;
  },
  renderer({ number, tokens }) {
    return `<p data-footnote="${number}"><sup>${number}</sup> ${this.parser.parseInline(tokens)}</p>`;
  },
};

export const footnoteExtensions = [reference, note];

/** Returns the name of a note among the link references. */
function keyOf(name) {
  return `^${name.toLowerCase()}`;
}

/**
 * Numbers the notes of a text.
 * @param {object[]} blocks all blocks without blocks in them
 * @param {object} links the link references, to which the notes of complete blocks are added
 * @param {(index: number) => boolean} counts whether a block is complete
 */
export function numberNotes(blocks, links, counts) {
  let last = Object.values(links).filter(({ number }) => number).length;
  for (const [index, token] of blocks.entries()) {
    if (token.type !== "note") continue;
    token.number = links[token.tag]?.number ?? ++last;
    if (counts(index)) links[token.tag] ??= { href: "", number: token.number };
  }
}

/** Makes the references in a node buttons that lead to their notes. */
export function linkNotes(node) {
  for (const mark of node.querySelectorAll("sup[data-note]")) {
    const { note: number } = mark.dataset;
    const button = el("button", { type: "button", class: "note-link", "aria-label": `Footnote ${number}`, text: number });
    button.addEventListener("click", () => {
      const note = mark.closest(".prose")?.querySelector(`[data-footnote="${number}"]`);
      if (!note) return;
      note.tabIndex = -1;
      note.scrollIntoView({ block: "center" });
      note.focus({ preventScroll: true });
    });
    mark.replaceChildren(button);
  }
}
