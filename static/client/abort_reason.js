/** The reason of a cancellation, as the text that the protocol has for it. */

const REASON_CHARS_MAX = 300;

/**
 * Returns the text of a reason, which may be anything, as in `AbortController.abort(reason)`; undefined if it says nothing.
 * @param {unknown} reason
 * @returns {string | undefined}
 */
export function reasonText(reason) {
  if (reason === undefined || reason === null) return undefined;
  if (globalThis.DOMException && reason instanceof DOMException && reason.name === "AbortError") return undefined; // `abort()`
  const text = typeof reason === "object" ? (reason.message || reason.name || json(reason)) : String(reason);
  return Array.from(String(text).toWellFormed()).slice(0, REASON_CHARS_MAX).join("") || undefined;
}

function json(value) {
  try {
    return JSON.stringify(value);
  } catch {
    return ""; // it refers to itself
  }
}
