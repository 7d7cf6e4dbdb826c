/** What components show of turns and messages: objects that never change, and that stay the same while nothing has changed. */

import { TurnwireError } from "../dist/turnwire.js";

/** Returns the fields of a start: those of the component, and those of the call. `input`: text or parts. */
export function fieldsOf(defaults, input, fields) {
  return { ...defaults, ...fields, ...(input !== undefined && { input }) };
}

/** Returns whether two starts have the same fields. */
export function isSame(a, b) {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** Copies parts that are still being written. A part that has no more text than its last copy isn't copied again. */
export function copyParts(parts, copies) {
  return parts.map((part, n) => (copies[n] && sizeOf(copies[n]) === sizeOf(part) && copies[n].kind === part.kind ? copies[n] : { ...part }));
}

/** Returns the error of an ending, or null. */
export function errorOf(ending) {
  if (ending?.type !== "turn.failed") return null;
  return ending.error instanceof Error ? ending.error : new TurnwireError(ending.error);
}

export function partsOf(input) {
  return typeof input === "string" ? [{ kind: "text", text: input }] : input;
}

export function textOf(parts) {
  return parts.map((part) => (part.kind === "text" ? part.text : "")).join("");
}

/** Returns a stored message as a component shows it. */
export function viewOf(message) {
  const { turn = null, id, role, ended, error } = message;
  return { ...message, ...keyed(turn, id, role), text: textOf(message.parts), status: ended ?? "completed", error: error ? new TurnwireError(error) : null };
}

/** Returns the user's message of a running turn. */
export function viewOfInput(turn, parts) {
  const { id = null, created_at = null, parent = null, metadata } = turn.input ?? {};
  const role = parts.every(({ kind }) => kind === "tool_result") ? "tool" : "user";
  return { ...keyed(turn.id, id, role), role, parts, parent, created_at, metadata, text: textOf(parts), status: "completed", error: null };
}

/** Returns the answer of a running turn. */
export function viewOfAnswer(turn, parts) {
  const { messageId: id, model, status, text, parentId: parent } = turn;
  return { ...keyed(turn.id, id, "assistant"), role: "assistant", parts, parent, model, text, status, error: errorOf(turn.ending) };
}

/** The key is the same before and after a message is stored. */
function keyed(turn, id, role) {
  return { key: turn === null ? id : `${turn}:${role}`, id, turn };
}

function sizeOf({ text = "", arguments: json = "", signature = "" }) {
  return text.length + json.length + signature.length;
}
