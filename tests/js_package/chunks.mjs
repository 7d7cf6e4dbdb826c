/**
 * Writes the UI messages that the AI SDK makes of turns, each read at several speeds: after each event, after every third, and
 * only at the end. Every chunk is checked with the schema of the AI SDK.
 */

import { readUIMessageStream, uiMessageChunkSchema } from "ai";
import { Turn } from "turnwire";
import { UiChunks } from "./node_modules/turnwire/ai-sdk/chunks.js";

const started = { type: "turn.started", epoch: 1, status: "running", conversation: "c", model: "m", input: null, message: "a1", parent: "u1" };
const part = (n, fields) => ({ type: "turn.part", part: n, ...fields });
const delta = (n, text) => ({ type: "turn.delta", part: n, text });
const ended = { usage: { input_tokens: 3, output_tokens: 4, reasoning_tokens: 1 }, cost: null, timing: { total_ms: 5 }, message: "a1" };

const cases = {
  everything: [
    part(0, { kind: "reasoning" }), delta(0, "Hm"), delta(0, "m."),
    part(1, { kind: "reasoning", redacted: true }), { type: "turn.delta", part: 1, signature: "s" },
    part(2, { kind: "text" }), delta(2, "One "), part(3, { kind: "citation", url: "https://example.org", title: "E" }), delta(2, "two."),
    part(4, { kind: "citation", text: "without an address" }),
    part(5, { kind: "image", media_type: "image/png", url: "/v1/messages/a1/parts/5" }),
    part(6, { kind: "tool_call", call: "c1", name: "add" }), part(7, { kind: "tool_call", call: "c2", name: "bad" }),
    delta(6, '{"a":'), delta(7, "no"), delta(6, "1}"),
    { type: "turn.completed", finish_reason: "tool_calls", ...ended },
  ],
  reset: [
    part(0, { kind: "text" }), delta(0, "Wrong"), { type: "turn.reset", epoch: 2, reason: "r" },
    part(0, { kind: "text" }), delta(0, "Right."), { type: "turn.completed", finish_reason: "stop", ...ended },
  ],
  limit: [part(0, { kind: "text" }), delta(0, "Cut"), { type: "turn.cancelled", by: "limit", ...ended }],
  stopped: [part(0, { kind: "refusal" }), delta(0, "No"), { type: "turn.cancelled", by: "client", reason: "enough", ...ended }],
  failed: [part(0, { kind: "text" }), delta(0, "Half"), { type: "turn.failed", error: { code: "upstream_error", message: "E." }, ...ended }],
  refused: [{ type: "turn.failed", error: { code: "upstream_error", message: "E." }, ...ended }],
  empty: [{ type: "turn.completed", finish_reason: "stop", ...ended }],
};

/** Returns the message, the reason of an abort, and the finish reason of a turn that is read after every `step` events. */
async function read(events, step) {
  const turn = new Turn("t1", () => {});
  const reader = new UiChunks(turn, { absolute: (url) => `https://gateway.example${url}` });
  const chunks = [];
  [started, ...events].forEach((event, n) => {
    turn.receive({ turn: "t1", seq: n + 1, ...event });
    if ((n + 1) % step === 0 || turn.ended) chunks.push(...reader.read());
  });
  if (!reader.done || reader.read().length > 0) throw new Error("The stream doesn't end once.");
  for (const chunk of chunks) {
    const { success, error } = await uiMessageChunkSchema().validate(chunk);
    if (!success) throw new Error(`${JSON.stringify(chunk)}: ${error}`);
  }
  let message = null;
  for await (message of readUIMessageStream({ stream: ReadableStream.from(chunks), onError: (error) => { throw error; } }));
  const ending = chunks.find(({ type }) => type === "finish" || type === "abort");
  return { message, ending: ending && { ...ending, messageMetadata: undefined } };
}

const texts = ({ message, ending }) => ({
  // A part of text that goes on after a citation is two parts for a fast reader, and one for a slow one.
  text: (message?.parts ?? []).filter(({ type }) => type === "text").map(({ text }) => text).join(""),
  other: (message?.parts ?? []).filter(({ type }) => type !== "text"),
  metadata: message?.metadata,
  ending,
});
const found = {};
for (const [name, events] of Object.entries(cases)) {
  const results = [];
  for (const step of [1, 3, 100]) results.push(texts(await read(events, step)));
  const [first, ...others] = results.map((result) => JSON.stringify(result));
  if (others.some((other) => other !== first)) throw new Error(`${name} depends on the speed: ${first} ${others}`);
  found[name] = results[0];
}
console.log(JSON.stringify(found));
