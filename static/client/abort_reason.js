/** Converts the reason of a cancellation to the text that a request carries. */

const REASON_CHARS_MAX = 300;
/** The message of the error that `abort()` without a reason makes. */
const DEFAULT_MESSAGE = globalThis.AbortSignal?.abort().reason.message;

/**
 * Returns the text of a reason, which may be any value, as in `AbortController.abort(reason)`. Undefined: it has none.
 * @param {unknown} reason
 * @returns {string | undefined}
 */
export function reasonText(reason) {
  if (reason === undefined || reason === null) return undefined;
  const isDefault = globalThis.DOMException && reason instanceof DOMException && reason.name === "AbortError";
  if (isDefault && reason.message === DEFAULT_MESSAGE) return undefined;
  return Array.from(text(reason).toWellFormed()).slice(0, REASON_CHARS_MAX).join("") || undefined;
}

/** Returns the text of any value, also of one whose properties throw. */
function text(reason) {
  try {
    if (typeof reason !== "object") return String(reason);
    const { message, name } = reason;
    return [message, name].find((text) => typeof text === "string" && text !== "") ?? json(reason) ?? "";
  } catch {
    return "";
  }
}

function json(value) {
  try {
    return JSON.stringify(value);
  } catch {
    return ""; // for example because it contains itself
  }
}
