/**
 * Formulas in Markdown: `\(…\)`, `\[…\]`, `$…$` and `$$…$$`. They become `code` elements with their source, delimiters
 * included, so that a formula that isn't rendered can be read and copied.
 */

/** A longer source is text. */
export const FORMULA_CHARS_MAX = 5_000;
const INLINE_DOLLAR_CHARS_MAX = 500;
const CLOSING = { "\\(": "\\)", "\\[": "\\]", "$$": "$$" };
const OPENING_LINE = /^ {0,3}(?:\$\$|\\\[)/;
const BLANK_LINE = /\n[ \t]*\n/;

/** Returns the index of the next character with which a formula may start; -1 if there is none. */
function startOfFormula(text) {
  const dollar = text.indexOf("$");
  const bracket = text.search(/\\[()[\]]/);
  return dollar < 0 || bracket < 0 ? Math.max(dollar, bracket) : Math.min(dollar, bracket);
}

/** Returns the formula at the start of a text, with its delimiters, or "". */
function leadingFormula(text) {
  const opening = text.slice(0, 2);
  const closing = CLOSING[opening];
  if (!closing) return leadingDollars(text);
  const end = text.slice(0, FORMULA_CHARS_MAX).indexOf(closing, 2);
  const source = end < 0 ? "" : text.slice(0, end + 2);
  return source.slice(2, -2).trim() && !BLANK_LINE.test(source) ? source : "";
}

/**
 * Returns the leading formula between single dollars. A price isn't one: no space is inside the dollars, no digit follows,
 * and the formula is in one line.
 */
function leadingDollars(text) {
  if (text[0] !== "$" || /[\s$]/.test(text[1] ?? " ")) return "";
  const line = text.slice(1, INLINE_DOLLAR_CHARS_MAX);
  let end = line.indexOf("$");
  while (end > 0 && line[end - 1] === "\\") end = line.indexOf("$", end + 1);
  if (end < 1 || /\s/.test(line[end - 1]) || /[\d$]/.test(line[end + 1] ?? "")) return "";
  const source = line.slice(0, end);
  return /[`\n]/.test(source) ? "" : `$${source}$`;
}

/** A formula in a line of text. A backslash of a delimiter that isn't part of a formula is shown. */
const inline = {
  name: "formula",
  level: "inline",
  start: startOfFormula,
  tokenizer(text) {
    const raw = leadingFormula(text);
    if (raw) return { type: "formula", raw, display: !/^(?:\\\(|\$[^$])/.test(raw) };
    return /^\\[()[\]]/.test(text) ? { type: "text", raw: text.slice(0, 2), text: text.slice(0, 2), escaped: false } : undefined;
  },
  renderer: renderFormula,
};

/**
 * A formula in lines of its own. Until it is closed, or a blank line shows that it won't be, it is open: its lines would
 * otherwise be lists or headings meanwhile. While `pending`, more text may make it part of a paragraph.
 */
const block = {
  name: "formulaBlock",
  level: "block",
  start: (text) => {
    const index = text.search(/\n {0,3}(?:\$\$|\\\[)/);
    return index < 0 ? undefined : index + 1;
  },
  tokenizer(text) {
    const [indent] = OPENING_LINE.exec(text) ?? [];
    if (!indent) return undefined;
    const closing = CLOSING[indent.trim()];
    const end = text.slice(0, FORMULA_CHARS_MAX).indexOf(closing, indent.length);
    if (end < 0) return BLANK_LINE.test(text) || text.length > FORMULA_CHARS_MAX ? undefined : { type: "formulaBlock", raw: text, pending: true };
    const source = text.slice(0, end + 2);
    const [rest] = /^[^\n]*\n?/.exec(text.slice(end + 2));
    if (rest.trim() || BLANK_LINE.test(source) || !source.slice(indent.length, -2).trim()) return undefined;
    return { type: "formulaBlock", raw: source + rest, pending: !rest.endsWith("\n"), display: true };
  },
  renderer: (token) => (token.display ? `<p>${renderFormula(token)}</p>` : `<p>${escapeHtml(token.raw.trim())}</p>`),
};

export const mathExtensions = [inline, block];

/** Returns the source of a formula without its delimiters. */
export function formulaOf(source) {
  const length = source.startsWith("$") && source[1] !== "$" ? 1 : 2;
  return source.slice(length, -length).trim();
}

function renderFormula({ raw, display }) {
  return `<code data-math="${display ? "display" : "inline"}">${escapeHtml(raw.trim())}</code>`;
}

/** Returns text as HTML. */
export function escapeHtml(text) {
  return text.replace(/[&<>"']/g, (character) => `&#${character.codePointAt(0)};`);
}
