/** Converts messages of the AI SDK to parts of the protocol, and stored messages back. */

import { TurnwireError } from "../dist/turnwire.js";

const TOOL_PREFIX = "tool-";
const DENIED = "The user denied this tool call.";
const DATA_URL = /^data:([^,;]*)((?:;[^,;]*)*),/;

/**
 * Returns the parts of a user's message: its texts and files.
 * @throws {TurnwireError} `invalid_request`: it has neither
 */
export function partsOf(message) {
  const parts = [];
  for (const part of message.parts) {
    if (part.type === "text" && part.text) parts.push({ kind: "text", text: part.text });
    else if (part.type === "file") parts.push(fileOf(part));
  }
  if (parts.length === 0) throw new TurnwireError({ code: "invalid_request", message: "The message is empty. Send a text or a file." });
  return parts;
}

/** Returns the results of the tool calls in the last step of an assistant's message. */
export function resultsOf(message) {
  const results = [];
  for (const part of message.parts) {
    if (part.type === "step-start") results.length = 0;
    const result = resultOf(part);
    if (result) results.push(result);
  }
  return results;
}

/** Returns the texts of the system's messages, joined; undefined if there is none. */
export function systemOf(messages) {
  const texts = messages.filter(({ role }) => role === "system").flatMap(({ parts }) => parts.map(({ text }) => text ?? ""));
  return texts.filter(Boolean).join("\n\n") || undefined;
}

/**
 * Returns the parts of a stored message as those of a UI message.
 * @param {object} message
 * @param {Map<string, object>} results the results of its tool calls, by call id
 * @param {(url: string) => string} absolute makes an address of the gateway absolute
 */
export function uiParts(message, results, absolute) {
  return message.parts.flatMap((part, n) => {
    switch (part.kind) {
      case "text":
      case "refusal":
        return { type: "text", text: part.text, state: "done" };
      case "reasoning":
        return part.redacted ? [] : { type: "reasoning", text: part.text, state: "done" };
      case "tool_call":
        return uiCall(part, results.get(part.call));
      case "citation":
        return sourceOf(part, `${message.turn}-${n}`);
      case "image":
      case "file":
        return uiFile(part, absolute);
      default:
        return [];
    }
  });
}

/** Returns a citation as a source, or an empty array if it has no address. */
export function sourceOf({ url, title }, sourceId) {
  return url === undefined ? [] : { type: "source-url", sourceId, url, ...(title !== undefined && { title }) };
}

/** Returns an image or a file of a stored message or of an answer, or an empty array if it has no content. */
export function uiFile({ media_type = "", url, data, name }, absolute) {
  if (url === undefined && data === undefined) return [];
  const address = data === undefined ? absolute(url) : `data:${media_type};base64,${data}`;
  return { type: "file", mediaType: media_type, url: address, ...(name !== undefined && { filename: name }) };
}

/** Parses the arguments of a tool call. Returns undefined if they aren't JSON. */
export function inputOf(text) {
  try {
    return JSON.parse(text || "{}");
  } catch {
    return undefined;
  }
}

function uiCall({ call, name, arguments: text }, result) {
  const part = { type: `${TOOL_PREFIX}${name}`, toolCallId: call, state: "input-available", input: inputOf(text) ?? text };
  if (!result) return part;
  if (result.error) return { ...part, state: "output-error", errorText: result.output };
  return { ...part, state: "output-available", output: outputOf(result.output) };
}

/** Returns an output as it was sent: JSON if it is an object or an array, else text. */
function outputOf(text) {
  return /^[{[]/.test(text) ? (inputOf(text) ?? text) : text;
}

function resultOf({ type, toolCallId: call, state, output, errorText, approval }) {
  if (call === undefined || !(type.startsWith(TOOL_PREFIX) || type === "dynamic-tool")) return undefined;
  const isDenied = state === "output-denied" || (state === "approval-responded" && approval?.approved === false);
  if (isDenied) return { kind: "tool_result", call, output: approval?.reason || DENIED, error: true };
  if (state === "output-error") return { kind: "tool_result", call, output: errorText || "The tool failed.", error: true };
  if (state !== "output-available") return undefined;
  return { kind: "tool_result", call, output: typeof output === "string" ? output : JSON.stringify(output ?? null) };
}

function fileOf({ url, mediaType, filename }) {
  const [head, inUrl, options] = DATA_URL.exec(url) ?? [];
  const media_type = (inUrl || mediaType || "application/octet-stream").toLowerCase();
  const kind = media_type.startsWith("image/") ? "image" : "file";
  const named = { kind, media_type, ...(filename !== undefined && { name: filename }) };
  if (head === undefined) return { ...named, url };
  const content = url.slice(head.length);
  return { ...named, data: options.includes(";base64") ? content : base64(decodeURIComponent(content)) };
}

function base64(text) {
  return btoa(Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join(""));
}
