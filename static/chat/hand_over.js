/**
 * Goes on in a new conversation when the context of this one is too long: with its last exchanges, or with a summary.
 * Loaded when the user asks for it.
 */

import { textOf } from "./message_tree.js";

/** The gateway counts three bytes as a token. */
const BYTES_PER_TOKEN = 3;
/** Assumed for a model whose context window isn't known. */
const WINDOW_TOKENS = 8_000;
/** A start is one frame of at most 64 KiB, and JSON adds to the text. */
const BYTES_MAX = 40_000;
const SUMMARY_TOKENS = 800;
const SUMMARIZE = "Summarize the following conversation for someone who has to continue it: the facts, the decisions, what was tried, and what is still open. Answer with the summary alone.";

/**
 * Returns the text of the first prompt of the new conversation.
 * @param {import("./message_tree.js").MessageNode} answer the answer that failed
 * @param {"recent" | "summary"} mode
 * @param {number | null} window the model's context window, in tokens
 * @param {(fields: object) => Promise<{parts: object[]}>} ask starts a stateless turn and returns its message
 */
export async function handOverText(answer, mode, window, ask) {
  const prompt = answer.parent;
  const question = textOf(prompt.parts);
  // Half of the window is for the earlier text and the question, and half for what follows.
  const room = Math.min(BYTES_MAX, ((window || WINDOW_TOKENS) * BYTES_PER_TOKEN) / 2) - byteLength(question);
  const recent = lastExchanges(prompt.parent, room);
  if (recent === "") return question;
  if (mode === "recent") return join("This conversation goes on from an earlier one, which became too long. These are its last exchanges:", recent, question);
  const parts = [{ kind: "text", text: `${SUMMARIZE}\n\n${recent}` }];
  const summary = textOf((await ask({ messages: [{ role: "user", parts }], params: { max_tokens: SUMMARY_TOKENS } })).parts).trim();
  if (summary === "") throw new Error("The model returned no summary.");
  return join("This conversation goes on from an earlier one, which became too long. This is a summary of it:", summary, question);
}

/** Returns the messages up to `node` that fit into a number of bytes, oldest first. Only the newest one may be cut. */
export function lastExchanges(node, bytes) {
  const texts = [];
  let left = bytes;
  for (let at = node; at && at.role !== "root"; at = at.parent) {
    const text = textOf(at.parts).trim();
    if (at.role === "tool" || text === "") continue;
    const entry = `${at.role === "user" ? "User" : "Assistant"}: ${text}`;
    left -= byteLength(entry) + 2;
    if (left < 0) {
      if (texts.length === 0 && bytes > 200) texts.push(`${at.role === "user" ? "User" : "Assistant"}: …${endOf(text, bytes - 20)}`);
      break;
    }
    texts.push(entry);
  }
  return texts.reverse().join("\n\n");
}

function join(introduction, earlier, question) {
  const quoted = earlier.split("\n").map((line) => `> ${line}`.trimEnd()).join("\n");
  return `${introduction}\n\n${quoted}\n\n${question}`;
}

function byteLength(text) {
  return new TextEncoder().encode(text).length;
}

/** Returns the end of a text that has at most this many bytes. */
function endOf(text, bytes) {
  return new TextDecoder().decode(new TextEncoder().encode(text).slice(-bytes)).replace(/^\uFFFD+/, "");
}
