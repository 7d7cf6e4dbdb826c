/**
 * Builds a turn's message from its events. Applying a delta takes time proportional to the delta, not to the message.
 */

import { LawViolation } from "./errors.js";

const ENVELOPE = new Set(["type", "turn", "seq", "after", "part", "as"]);

/**
 * Applies an event to a turn's message and status.
 * @throws {LawViolation} a delta names a part that was never opened
 */
export function applyEvent(turn, event) {
  switch (event.type) {
    case "turn.started":
      turn.conversation = event.conversation;
      turn.model = event.model;
      turn.input = event.input;
      turn.messageId = event.message;
      turn.parentId = event.parent;
      turn.status = event.status;
      break;
    case "turn.status":
      if (event.status === "fallback" || event.status === "continued") turn.model = event.model;
      if (event.status !== "trimmed") turn.status = event.status === "resumed" ? "running" : event.status;
      break;
    case "turn.reset":
      turn.parts = [];
      turn.status = "running";
      break;
    case "turn.part":
      turn.parts[event.part] = newPart(event);
      turn.status = "running";
      break;
    case "turn.delta":
      turn.status = "running";
      appendDelta(turn.parts[event.part], event);
      break;
    case "turn.completed":
    case "turn.cancelled":
    case "turn.failed":
      turn.status = event.type.slice("turn.".length);
  }
}

/** Returns the text parts joined. */
export function textOf(parts) {
  const texts = parts.filter((part) => part?.kind === "text");
  return texts.length === 1 ? texts[0].text : texts.map((part) => part.text).join("");
}

/** Creates a part from the fields of a `turn.part` event. */
function newPart(event) {
  const part = {};
  for (const [name, value] of Object.entries(event)) {
    if (!ENVELOPE.has(name) && name !== "__proto__") part[name] = value;
  }
  if (event.kind === "tool_call") part.arguments ??= "";
  else part.text ??= "";
  return part;
}

function appendDelta(part, event) {
  if (!part) throw new LawViolation(`Turn ${event.turn}: a delta for part ${event.part}, which was never opened (law 1).`);
  if (event.signature !== undefined) part.signature = (part.signature ?? "") + event.signature;
  if (event.text === undefined) return;
  // Engines store a growing string as a rope, so appending copies nothing.
  if (part.kind === "tool_call") part.arguments += event.text;
  else part.text += event.text;
}
