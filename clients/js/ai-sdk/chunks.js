/** The stream of a UI message: what a turn has more than what was sent of it, as chunks of the AI SDK. */

import { inputOf, sourceOf, uiFile } from "./messages.js";

const FINISH_REASONS = { stop: "stop", length: "length", tool_calls: "tool-calls", content_filter: "content-filter", refusal: "content-filter" };
/** The chunks of each kind of part that is streamed as text. */
const SPOKEN = { text: "text", refusal: "text", reasoning: "reasoning" };

/**
 * Reads a turn as chunks. It compares the turn with what it has sent, so it can begin at any time, and a slow reader gets
 * fewer and longer deltas.
 */
export class UiChunks {
  /** Whether the last chunk was read. Then `turn.ending` says whether the turn has failed. */
  done = false;
  #turn;
  #messageId;
  #earlier;
  #absolute;
  #hasBegun = false;
  #parts;
  /** Of each part: how many characters were sent, and the id under which it is open, if it is. */
  #sent = [];

  /**
   * @param {import("../dist/turnwire.js").Turn} turn
   * @param {object} options
   * @param {string} [options.messageId] the id of the UI message; by default that of the turn
   * @param {object[]} [options.earlier] the chunks of the steps before this turn, for a reader that gets the whole message
   * @param {(url: string) => string} options.absolute makes an address of the gateway absolute
   */
  constructor(turn, { messageId = turn.id, earlier = [], absolute }) {
    this.#turn = turn;
    this.#messageId = messageId;
    this.#earlier = earlier;
    this.#absolute = absolute;
    this.#parts = turn.parts;
  }

  /** Returns the chunks of everything that has happened since the last call. */
  read() {
    const turn = this.#turn;
    const chunks = [];
    if (turn.parts !== this.#parts) {
      // The answer begins again, after `turn.reset`.
      if (this.#hasBegun) chunks.push({ type: "reset-step" });
      this.#parts = turn.parts;
      this.#sent = [];
    }
    if (turn.parts.length > 0) this.#begin(chunks);
    turn.parts.forEach((part, n) => this.#readPart(chunks, part, n));
    if (turn.ended && !this.done) this.#end(chunks);
    return chunks;
  }

  #begin(chunks) {
    if (this.#hasBegun) return;
    this.#hasBegun = true;
    const { id: turn, messageId: message, conversation, model } = this.#turn;
    const messageMetadata = { turn, message, conversation, model };
    chunks.push({ type: "start", messageId: this.#messageId, messageMetadata }, ...this.#earlier, { type: "start-step" });
  }

  #readPart(chunks, part, n) {
    const isNew = this.#sent[n] === undefined;
    const sent = (this.#sent[n] ??= { length: 0, id: null, openings: 0 });
    if (isNew) this.#closeAll(chunks);
    const spoken = part.redacted ? undefined : SPOKEN[part.kind];
    if (spoken) this.#readText(chunks, spoken, part.text, sent, n, isNew);
    else if (part.kind === "tool_call") readCall(chunks, part, sent, isNew);
    else if (isNew && part.kind === "citation") chunks.push(...[sourceOf(part, `${this.#turn.id}-${n}`)].flat());
    else if (isNew && (part.kind === "image" || part.kind === "file")) chunks.push(...[uiFile(part, this.#absolute)].flat());
  }

  #readText(chunks, spoken, text, sent, n, isNew) {
    if (isNew || (sent.id === null && text.length > sent.length)) {
      // More text of a part that was closed continues as another part of the UI message.
      if (!isNew) this.#closeAll(chunks);
      sent.id = sent.openings++ === 0 ? String(n) : `${n}.${sent.openings - 1}`;
      sent.spoken = spoken;
      chunks.push({ type: `${spoken}-start`, id: sent.id });
    }
    if (text.length > sent.length) chunks.push({ type: `${spoken}-delta`, id: sent.id, delta: text.slice(sent.length) });
    sent.length = text.length;
  }

  #closeAll(chunks) {
    for (const sent of this.#sent) {
      if (sent === undefined || sent.id === null) continue;
      chunks.push({ type: `${sent.spoken}-end`, id: sent.id });
      sent.id = null;
    }
  }

  #end(chunks) {
    const { ending, model } = this.#turn;
    this.done = true;
    if (ending.type === "turn.cancelled" && ending.local) return; // it was never sent
    if (ending.type === "turn.failed" && !this.#hasBegun) return;
    this.#begin(chunks);
    this.#closeAll(chunks);
    const messageMetadata = { model, ...metadataOf(ending) };
    if (ending.type === "turn.failed") {
      chunks.push({ type: "message-metadata", messageMetadata });
    } else if (ending.type === "turn.completed" || ending.by === "limit") {
      // What is cut off by a limit or a stop may be a half of the arguments, so no tool is called then.
      if (ending.type === "turn.completed") chunks.push(...this.#parts.filter(({ kind }) => kind === "tool_call").map(inputChunk));
      const finishReason = FINISH_REASONS[ending.finish_reason ?? "length"] ?? "other";
      chunks.push({ type: "finish-step" }, { type: "finish", finishReason, messageMetadata });
    } else {
      const reason = typeof ending.reason === "string" && { reason: ending.reason };
      chunks.push({ type: "finish-step" }, { type: "message-metadata", messageMetadata }, { type: "abort", ...reason });
    }
  }
}

/** Returns the chunks that make a whole part of a UI message. */
export function chunksOfPart(part, id) {
  const { type } = part;
  if (type === "text" || type === "reasoning") {
    return [{ type: `${type}-start`, id }, { type: `${type}-delta`, id, delta: part.text }, { type: `${type}-end`, id }];
  }
  if (!type.startsWith("tool-")) return [part];
  const { toolCallId, input, output, errorText } = part;
  const chunks = [{ type: "tool-input-available", toolCallId, toolName: type.slice("tool-".length), input }];
  if (part.state === "output-available") chunks.push({ type: "tool-output-available", toolCallId, output });
  else if (part.state === "output-error") chunks.push({ type: "tool-output-error", toolCallId, errorText });
  return chunks;
}

function readCall(chunks, { call: toolCallId, name: toolName, arguments: text }, sent, isNew) {
  if (isNew) chunks.push({ type: "tool-input-start", toolCallId, toolName });
  if (text.length > sent.length) chunks.push({ type: "tool-input-delta", toolCallId, inputTextDelta: text.slice(sent.length) });
  sent.length = text.length;
}

function inputChunk({ call: toolCallId, name: toolName, arguments: text }) {
  const input = inputOf(text);
  if (input !== undefined) return { type: "tool-input-available", toolCallId, toolName, input };
  return { type: "tool-input-error", toolCallId, toolName, input: text, errorText: "The model's arguments aren't JSON." };
}

/** Returns what the metadata of a UI message has of an ending, or of a stored answer. */
export function metadataOf({ finish_reason, usage, cost, timing, error }) {
  return {
    ...(finish_reason && { finishReason: FINISH_REASONS[finish_reason] ?? "other" }),
    ...(usage && { usage: usageOf(usage) }),
    ...(cost && { cost }),
    ...(timing && { timing }),
    ...(error && { error: { code: error.code, message: error.message, retryable: error.retryable ?? false } }),
  };
}

function usageOf({ input_tokens, output_tokens, reasoning_tokens, cache_read_tokens }) {
  return {
    inputTokens: input_tokens,
    outputTokens: output_tokens,
    totalTokens: input_tokens + output_tokens,
    ...(reasoning_tokens !== undefined && { reasoningTokens: reasoning_tokens }),
    ...(cache_read_tokens !== undefined && { cachedInputTokens: cache_read_tokens }),
  };
}
