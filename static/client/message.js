/** A turn's message, folded from its events one by one. A delta costs the delta, however long the message is. */

import { LawViolation } from "./errors.js";

const ENVELOPE = new Set(["type", "turn", "seq", "part", "as"]);

/** Changes what `turn` shows by what `event` says. */
export function fold(turn, event) {
  switch (event.type) {
    case "turn.started":
      turn.conversation = event.conversation;
      turn.model = event.model;
      turn.input = event.input;
      turn.status = event.status;
      break;
    case "turn.status":
      if (event.status === "fallback") turn.model = event.model;
      if (event.status !== "trimmed") turn.status = event.status === "resumed" ? "running" : event.status;
      break;
    case "turn.reset":
      turn.parts = [];
      turn.status = "running";
      break;
    case "turn.part":
      turn.parts[event.part] = opened(event);
      turn.status = "running";
      break;
    case "turn.delta":
      turn.status = "running";
      extend(turn.parts[event.part], event);
      break;
    case "turn.completed":
    case "turn.cancelled":
    case "turn.failed":
      turn.status = event.type.slice("turn.".length);
  }
}

/** The text parts joined. */
export function textOf(parts) {
  const texts = parts.filter((part) => part?.kind === "text");
  return texts.length === 1 ? texts[0].text : texts.map((part) => part.text).join("");
}

/** A `turn.part` event as the empty part that its deltas fill. */
function opened(event) {
  const part = {};
  for (const [name, value] of Object.entries(event)) {
    if (!ENVELOPE.has(name) && name !== "__proto__") part[name] = value;
  }
  if (event.kind === "tool_call") part.arguments ??= "";
  else part.text ??= "";
  return part;
}

function extend(part, event) {
  if (!part) throw new LawViolation(`Turn ${event.turn}: a delta for part ${event.part}, which was never opened (law 1).`);
  if (event.signature !== undefined) part.signature = (part.signature ?? "") + event.signature;
  if (event.text === undefined) return;
  // Engines keep a text that grows as a rope: appending copies nothing until somebody reads it.
  if (part.kind === "tool_call") part.arguments += event.text;
  else part.text += event.text;
}
