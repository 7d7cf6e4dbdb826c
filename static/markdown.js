/**
 * Minimal markdown as data: text in, blocks and inline spans out. Pure; markdown_view.js makes nodes of it.
 * Raw HTML is just text. A block that is followed by another block never changes when more text arrives.
 */

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`\s]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)(?:\s+#+)?\s*$/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?:[ \t]+(.*)|$)/;
const QUOTE = /^ {0,3}> ?(.*)$/;
const ROW = /^ {0,3}\|/;
const TABLE_RULE = /^ {0,3}\|[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const BLANK = /^\s*$/;
const DEPTH_MAX = 6;
/** Past this a paragraph is shown as it came: no answer has one this long, and parsing it anew each frame would cost. */
const INLINE_CHARS_MAX = 20_000;

/**
 * @typedef {{kind: "heading", level: number, text: string} | {kind: "paragraph", text: string} | {kind: "rule"}
 *   | {kind: "code", language: string, text: string, closed: boolean} | {kind: "quote", blocks: Block[]}
 *   | {kind: "list", ordered: boolean, start: number, items: Block[][]}
 *   | {kind: "table", head: string[], rows: string[][]}} Block
 */

/**
 * Parses text into blocks, each with the offset at which it starts.
 * @param {string} text
 * @returns {{start: number, block: Block}[]}
 */
export function parseBlocks(text, depth = 0) {
  const lines = text.split("\n");
  const found = [];
  let offset = 0;
  for (let at = 0; at < lines.length; ) {
    const [block, count] = BLANK.test(lines[at]) ? [null, 1] : readBlock(lines, at, depth);
    if (block) found.push({ start: offset, block });
    for (let end = at + count; at < end; at++) offset += lines[at].length + 1;
  }
  return found;
}

function readBlock(lines, at, depth) {
  const line = lines[at];
  let match;
  if ((match = FENCE.exec(line))) return readCode(lines, at, match);
  if ((match = HEADING.exec(line))) return [{ kind: "heading", level: match[1].length, text: match[2] }, 1];
  if (RULE.test(line)) return [{ kind: "rule" }, 1];
  if (depth < DEPTH_MAX && QUOTE.test(line)) return readQuote(lines, at, depth);
  if (depth < DEPTH_MAX && ITEM.test(line)) return readList(lines, at, depth);
  if (startsTable(lines, at)) return readTable(lines, at);
  return readParagraph(lines, at);
}

function readCode(lines, at, [, fence, language]) {
  const body = [];
  const isClosing = (line) => line.trim().length >= fence.length && /^ {0,3}(`+|~+)\s*$/.test(line) && line.trim()[0] === fence[0];
  let next = at + 1;
  while (next < lines.length && !isClosing(lines[next])) body.push(lines[next++]);
  const closed = next < lines.length;
  return [{ kind: "code", language, text: body.join("\n"), closed }, next - at + (closed ? 1 : 0)];
}

function readQuote(lines, at, depth) {
  const body = [];
  let next = at;
  for (let match; next < lines.length && (match = QUOTE.exec(lines[next])); next++) body.push(match[1]);
  return [{ kind: "quote", blocks: parseBlocks(body.join("\n"), depth + 1).map(({ block }) => block) }, next - at];
}

function readList(lines, at, depth) {
  const [, margin, marker] = ITEM.exec(lines[at]);
  const ordered = /\d/.test(marker);
  const bodies = [];
  let next = at;
  let blank = false;
  for (; next < lines.length; next++) {
    const line = lines[next];
    if (BLANK.test(line)) {
      blank = true;
      bodies.at(-1).push("");
      continue;
    }
    const indent = line.length - line.trimStart().length;
    const match = ITEM.exec(line);
    if (match && indent <= margin.length + 1) {
      if (/\d/.test(match[2]) !== ordered || RULE.test(line)) break;
      bodies.push([match[3] ?? ""]);
    } else if (indent > margin.length + 1) bodies.at(-1).push(line.slice(Math.min(indent, margin.length + marker.length + 1)));
    else if (blank || FENCE.test(line) || HEADING.test(line) || QUOTE.test(line)) break;
    else bodies.at(-1).push(line);
    blank = false;
  }
  const items = bodies.map((body) => parseBlocks(body.join("\n"), depth + 1).map(({ block }) => block));
  return [{ kind: "list", ordered, start: ordered ? Number.parseInt(marker, 10) : 1, items }, next - at];
}

function startsTable(lines, at) {
  return ROW.test(lines[at]) && at + 1 < lines.length && TABLE_RULE.test(lines[at + 1]);
}

function readTable(lines, at) {
  let next = at + 2;
  const rows = [];
  while (next < lines.length && ROW.test(lines[next])) rows.push(cells(lines[next++]));
  return [{ kind: "table", head: cells(lines[at]), rows }, next - at];
}

function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/\|$/, "");
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function readParagraph(lines, at) {
  let next = at + 1;
  const interrupts = (line) =>
    BLANK.test(line) || FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) ||
    /^ *(?:[-*+]|1[.)])[ \t]+\S/.test(line);
  while (next < lines.length && !interrupts(lines[next]) && !startsTable(lines, next)) next++;
  return [{ kind: "paragraph", text: lines.slice(at, next).map((line) => line.trimStart()).join("\n") }, next - at];
}

/**
 * @typedef {{kind: "text" | "code", text: string} | {kind: "break"} | {kind: "strong" | "emphasis", spans: Span[]}
 *   | {kind: "link", href: string, spans: Span[]}} Span
 */

/**
 * Parses one block's text into spans.
 * @param {string} text
 * @param {boolean} open more text may follow: a mark that is not closed yet counts as closed at the end
 * @returns {Span[]}
 */
export function parseInline(text, open = false, depth = 0) {
  if (text.length > INLINE_CHARS_MAX || depth > DEPTH_MAX) return [{ kind: "text", text }];
  const spans = [];
  const absent = new Set(); // marks that are known not to come again: keeps hostile text linear
  let plain = "";
  const push = (span) => {
    if (plain) spans.push({ kind: "text", text: plain });
    plain = "";
    spans.push(span);
  };
  for (let at = 0; at < text.length; ) {
    const found = readSpan(text, at, open, depth, absent);
    if (found) push(found.span);
    else if (text[at] === "\\" && /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "")) plain += text[++at];
    else plain += text[at];
    at = found ? found.end : at + 1;
  }
  if (plain) spans.push({ kind: "text", text: plain });
  return spans;
}

function readSpan(text, at, open, depth, absent) {
  switch (text[at]) {
    case "`":
      return readInlineCode(text, at, open, absent);
    case "*":
    case "_":
      return readEmphasis(text, at, open, depth, absent);
    case "[":
      return readLink(text, at, depth);
    case "h":
      return readBareLink(text, at);
    case "\n":
      return /(?: {2}|\\)$/.test(text.slice(Math.max(0, at - 2), at)) ? { span: { kind: "break" }, end: at + 1 } : null;
    default:
      return null;
  }
}

/** Where `mark` comes next; the text's end if it may still come; -1 if it does not. */
function closing(text, mark, from, open, absent) {
  let end = absent.has(mark) ? -1 : text.indexOf(mark, from);
  // A doubled star or underscore inside single ones belongs to strong text.
  while (end >= 0 && mark.length === 1 && mark !== "`" && text[end + 1] === mark) end = text.indexOf(mark, end + 2);
  if (end >= 0) return end;
  absent.add(mark);
  return open && mark !== "*" && mark !== "_" && from < text.length ? text.length : -1;
}

function readInlineCode(text, at, open, absent) {
  const [mark] = /^`+/.exec(text.slice(at, at + 8));
  const end = closing(text, mark, at + mark.length, open, absent);
  if (end < 0) return null;
  return { span: { kind: "code", text: text.slice(at + mark.length, end).trim() }, end: end + mark.length };
}

function readEmphasis(text, at, open, depth, absent) {
  const mark = text[at + 1] === text[at] ? text[at].repeat(2) : text[at];
  const from = at + mark.length;
  const insideWord = mark[0] === "_" && /[\p{L}\p{N}]/u.test(text[at - 1] ?? "");
  if (insideWord || /\s|^$/.test(text[from] ?? "")) return null;
  const end = closing(text, mark, from, open, absent);
  if (end <= from || (end < text.length && /\s/.test(text[end - 1]))) return null;
  const spans = parseInline(text.slice(from, end), open && end === text.length, depth + 1);
  return { span: { kind: mark.length === 2 ? "strong" : "emphasis", spans }, end: end + mark.length };
}

function readLink(text, at, depth) {
  const match = /^\[([^\]\n]{1,500})\]\(\s*<?([^\s()<>]{1,2000}(?:\([^\s()<>]*\)[^\s()<>]*)?)>?(?:\s+"[^"\n]*")?\s*\)/.exec(text.slice(at, at + 2600));
  if (!match) return null;
  const spans = parseInline(match[1], false, depth + 1);
  const href = safeHref(match[2]);
  return { span: href ? { kind: "link", href, spans } : { kind: "text", text: match[1] }, end: at + match[0].length };
}

function readBareLink(text, at) {
  if (!text.startsWith("https://", at) || /[\p{L}\p{N}]/u.test(text[at - 1] ?? "")) return null;
  const [raw] = /^https:\/\/[^\s<>"'`\]]*/.exec(text.slice(at, at + 2000));
  const shown = raw.replace(/[.,;:!?)*_]+$/, "");
  const href = safeHref(shown);
  return href ? { span: { kind: "link", href, spans: [{ kind: "text", text: shown }] }, end: at + shown.length } : null;
}

/** The address if it is https or mailto, else null. */
export function safeHref(address) {
  try {
    const url = new URL(address);
    return url.protocol === "https:" || url.protocol === "mailto:" ? url.href : null;
  } catch {
    return null;
  }
}
