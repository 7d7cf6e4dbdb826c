/** Exports a conversation as a file: what is shown as Markdown, or everything as JSON. */

import { el } from "../shared/dom.js";

const PAGE_SIZE = 200;
const MESSAGES_MAX = 10_000;
const REVOKE_AFTER_MS = 60_000;

/**
 * Downloads a conversation. Rejects if it can't be loaded.
 * @param {import("../turnwire.js").Connection} connection
 * @param {string} id
 * @param {"md" | "json"} format
 * @param {string | null} [leaf] the id of the last message that is shown; default: that of the conversation's head
 */
export async function exportConversation(connection, id, format, leaf = null) {
  const conversation = await connection.request("conversation.get", { conversation: id });
  const { messages, isComplete } = await loadMessages(connection, id);
  const parts = format === "json" ? jsonOf(conversation, messages, isComplete) : markdownOf(conversation, pathTo(messages, leaf ?? conversation.head), isComplete);
  const name = `${(conversation.title || "conversation").replace(/[^\p{L}\p{N} ._-]+/gu, "").trim().slice(0, 60) || "conversation"}.${format}`;
  download(new Blob(parts, { type: format === "json" ? "application/json" : "text/markdown" }), name);
}

/** Loads the newest messages, the oldest of them first. */
async function loadMessages(connection, id) {
  const pages = [];
  let count = 0;
  let before;
  do {
    const page = await connection.request("conversation.messages", { conversation: id, limit: PAGE_SIZE, ...(before && { before }) });
    pages.unshift(page.messages);
    count += page.messages.length;
    before = page.next;
  } while (before && count < MESSAGES_MAX);
  return { messages: pages.flat().slice(-MESSAGES_MAX), isComplete: !before };
}

/** Returns the messages from the first one to a message. */
function pathTo(messages, leaf) {
  const byId = new Map(messages.map((message) => [message.id, message]));
  const path = [];
  for (let at = byId.get(leaf); at && path.length < messages.length; at = byId.get(at.parent)) path.push(at);
  return path.length > 0 || leaf ? path.reverse() : messages;
}

function jsonOf(conversation, messages, isComplete) {
  const parts = [`{"conversation": ${JSON.stringify(conversation, null, 2)},\n"complete": ${isComplete},\n"messages": [\n`];
  for (const [index, message] of messages.entries()) parts.push(index > 0 ? ",\n" : "", JSON.stringify(message));
  return [...parts, "\n]}\n"];
}

function markdownOf({ title, system }, path, isComplete) {
  const parts = [`# ${(title || "Untitled").replace(/\s+/g, " ")}\n`];
  if (system) parts.push(`\n> ${system.replace(/\n/g, "\n> ")}\n`);
  if (!isComplete) parts.push(`\n*Only the newest ${MESSAGES_MAX.toLocaleString("en")} messages were exported.*\n`);
  for (const message of path) {
    const name = message.role === "user" ? "You" : message.role === "tool" ? "Tool" : (message.model ?? "Answer");
    parts.push(`\n## ${name}\n\n*${message.created_at}*\n\n`, message.parts.map(partMarkdown).join("\n\n"), "\n");
  }
  return parts;
}

function partMarkdown(part) {
  if (part.kind === "text" || part.kind === "refusal") return part.text ?? "";
  if (part.kind === "reasoning") return `> ${(part.text ?? "").replace(/\n/g, "\n> ")}`;
  if (part.kind === "tool_call") return fence(part.arguments ?? "", `${part.name}(…)`);
  if (part.kind === "tool_result") return fence(part.output ?? "", "Result");
  if (part.kind === "citation") return part.url ? `[${part.title ?? part.url}](${part.url})` : (part.title ?? part.text ?? "");
  return `*[${part.kind}: ${part.name ?? part.media_type ?? part.url ?? ""}]*`;
}

/** Returns a text as a code block. Its fence is longer than any in the text. */
function fence(text, label) {
  const marks = "`".repeat(Math.max(3, ...[...text.matchAll(/`+/g)].map(([run]) => run.length + 1)));
  return `${label}:\n\n${marks}\n${text}\n${marks}`;
}

function download(blob, name) {
  const href = URL.createObjectURL(blob);
  el("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), REVOKE_AFTER_MS);
}
