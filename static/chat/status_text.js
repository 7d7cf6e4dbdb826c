/** Texts for the state of a turn: its status, its ending, and advice on errors. */

const STATUS = new Map([
  ["starting", "Sending"],
  ["queued", "Queued"],
  ["running", "Waiting for the first token"],
  ["retrying", "Retrying"],
  ["fallback", "Using another model"],
  ["continued", "Continuing the answer"],
  ["waiting", "Slow to respond"],
  ["completed", "Done"],
  ["cancelled", "Stopped"],
  ["failed", "Failed"],
]);

const FINISH_REASON = new Map([
  ["stop", "finished"],
  ["length", "reached the length limit"],
  ["tool_calls", "called a tool"],
  ["content_filter", "stopped by the content filter"],
  ["refusal", "refused"],
]);

const CANCELLED_BY = new Map([
  ["client", "stopped by you"],
  ["disconnect", "stopped after a disconnect"],
  ["limit", "stopped by a limit"],
  ["admin", "stopped by an operator"],
]);

/** Why a completed answer isn't whole, and what to do about it, by its finish reason. */
const CUT = new Map([
  ["length", "The answer was cut off: it reached the length limit. Ask the model to continue, or allow more tokens in the settings."],
  ["content_filter", "The answer was cut off: the provider's content filter stopped it. Rephrase the prompt."],
  ["refusal", "The model refused to answer. Rephrase the prompt, or choose another model."],
]);

/** Why an answer was cancelled, by the `by` of its ending. `client` has no text, because the user knows why. */
const CANCELLED_WHY = new Map([
  ["disconnect", "The answer was cut off: it was stopped when its client disconnected."],
  ["limit", "The answer was cut off: it reached a limit of the gateway."],
  ["admin", "The answer was cut off: an operator stopped it."],
]);

const ADVICE = new Map([
  ["upstream_auth", "Check the provider's API key on the gateway."],
  ["upstream_rate_limited", "Wait a moment, or choose another model."],
  ["upstream_overloaded", "Try again in a moment, or choose another model."],
  ["upstream_timeout", "Try again. A shorter prompt may help."],
  ["upstream_error", "Try again, or choose another model."],
  ["upstream_incomplete", "The partial answer is kept. Try again for a complete one."],
  ["owner_lost", "The partial answer is kept. Try again for a complete one."],
  ["context_length_exceeded", "Start a new conversation, or choose a model with a larger context window."],
  ["content_filtered", "Rephrase the prompt."],
  ["model_not_found", "Choose another model."],
  ["unsupported", "Choose another model."],
  ["too_large", "Shorten the prompt."],
  ["rate_limited", "Wait a moment, then try again."],
  ["budget_exceeded", "Do what this message says, or contact the operator."],
  ["gone", "This answer's events have expired. Send the prompt again."],
  ["not_found", "Start a new conversation."],
  ["store_unavailable", "Try again in a moment."],
  ["shutting_down", "Try again in a moment."],
  ["connection_lost", "Check the network, then try again."],
  ["connection_closed", "The partial answer is kept. Fix the problem, then reload the page."],
  ["law_violation", "This is a bug in the gateway. Please report it with the output of the browser's console."],
]);

const STALLED_AFTER_MS = 3_000;

/** Returns whether the browser has no network, or the gateway's answer is overdue because of it. @param {import("../turnwire.js").ConnectionState} state */
export function isOffline(state) {
  if (state.suspect || state.network === false) return true;
  return state.state !== "live" && state.state !== "closed" && globalThis.navigator?.onLine === false;
}

/**
 * Returns why a turn makes no progress: the connection is lost, or output has paused for more than 3 s. Null otherwise.
 * @param {object | null} turn null: it isn't started yet
 * @param {import("../turnwire.js").ConnectionState} connection
 * @param {number} [now] in ms from `performance.now()`
 */
export function stallText(turn, connection, now = performance.now()) {
  const isLive = connection.state === "live" && !isOffline(connection);
  if (!isLive && (!turn || turn.status === "starting")) return "Waiting for the connection";
  if (!turn) return null;
  if (!isLive) return connection.delay_ms === null || isOffline(connection) ? "Offline" : "Reconnecting";
  const silent_ms = turn.status === "running" && turn.lastAt !== null ? now - turn.lastAt : 0;
  return silent_ms > STALLED_AFTER_MS ? `No output for ${Math.floor(silent_ms / 1000)} s` : null;
}

/**
 * Returns what a turn is doing.
 * @param {object} turn
 * @param {{status: string, at: number}} [lastStatus] its last `turn.status`, with its arrival in ms from
 *   `performance.now()`
 */
export function statusText(turn, lastStatus) {
  if (turn.status === "running" && turn.parts.length > 0) return "Streaming";
  const details = lastStatus?.status === turn.status ? lastStatus : {};
  if (turn.status === "queued" && details.position) return details.position === 1 ? "Queued, next in line" : `Queued, position ${details.position}`;
  if (turn.status === "continued" && details.model) return `The answer broke off: ${details.model} continues it`;
  if (turn.status === "fallback" && details.model) return `Using ${details.model} instead`;
  if (turn.status === "retrying" && details.attempt) {
    const seconds = Math.ceil((details.at + details.delay_ms - performance.now()) / 1000);
    return `Retrying${seconds > 0 ? ` in ${seconds} s` : ""} (attempt ${details.attempt})`;
  }
  return STATUS.get(turn.status) ?? turn.status;
}

/** Returns how a turn ended, in a few words. @param {import("../turnwire.js").Ending} ending */
export function endingText(ending) {
  if (ending.type === "turn.completed") return FINISH_REASON.get(ending.finish_reason) ?? ending.finish_reason ?? "";
  if (ending.type === "turn.cancelled") return CANCELLED_BY.get(ending.by) ?? "stopped";
  return "failed";
}

/**
 * Returns why an answer isn't whole, and what to do about it. Empty for a whole answer, for one that its user stopped, and
 * for a failed one, whose error says it.
 * @param {import("../turnwire.js").Ending} ending
 */
export function cutText(ending) {
  if (ending.type === "turn.completed") return CUT.get(ending.finish_reason) ?? "";
  const why = CANCELLED_WHY.get(ending.by);
  return why ? [why, sentence(ending.reason), "Regenerate it for a complete one."].filter(Boolean).join(" ") : "";
}

/** Returns what a person can do about an error. @param {import("../turnwire.js").TurnwireError} error */
export function errorAdvice(error) {
  return ADVICE.get(error.code) ?? (error.retryable ? "Try again." : "Change the request, then try again.");
}

function sentence(text) {
  return text && !/[.!?]$/.test(text) ? `${text}.` : text;
}
