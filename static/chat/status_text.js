/** Words for what happened to a turn: its status, its ending, and what a person can do about an error. */

const STATUS = new Map([
  ["starting", "Sending"],
  ["queued", "Queued"],
  ["running", "Waiting for the first token"],
  ["retrying", "Trying again"],
  ["fallback", "Using another model"],
  ["waiting", "Slow to start"],
  ["completed", "Done"],
  ["cancelled", "Stopped"],
  ["failed", "Failed"],
]);

const FINISH = new Map([
  ["stop", "finished"],
  ["length", "hit the length limit"],
  ["tool_calls", "asks for a tool"],
  ["content_filter", "cut by the content filter"],
  ["refusal", "refused"],
]);

const STOPPED_BY = new Map([
  ["client", "stopped by you"],
  ["disconnect", "stopped: nobody was listening"],
  ["limit", "stopped by a limit"],
  ["admin", "stopped by the operator"],
]);

const NEXT_STEP = new Map([
  ["upstream_auth", "Check the provider's key on the gateway."],
  ["upstream_rate_limited", "Wait a little, or pick another model."],
  ["upstream_overloaded", "Try again in a moment, or pick another model."],
  ["upstream_timeout", "Try again. A shorter prompt may help."],
  ["upstream_error", "Try again, or pick another model."],
  ["upstream_incomplete", "What arrived is kept above. Try again for a whole answer."],
  ["owner_lost", "What arrived is kept above. Try again for a whole answer."],
  ["context_length_exceeded", "Start a new conversation, or pick a model with a larger window."],
  ["content_filtered", "Rephrase the prompt."],
  ["model_not_found", "Pick another model."],
  ["unsupported", "Pick another model."],
  ["too_large", "Shorten the prompt."],
  ["rate_limited", "Wait a moment, then try again."],
  ["budget_exceeded", "Wait for the budget to renew, or ask the operator."],
  ["gone", "The events are no longer kept. Ask again."],
  ["not_found", "Start a new conversation."],
  ["store_unavailable", "Try again in a moment."],
  ["shutting_down", "Try again: another instance will answer."],
  ["connection_lost", "Check the network, then try again."],
  ["connection_closed", "What arrived is kept above. When that is put right, reload the page."],
  ["law_violation", "This is a fault of the gateway. Please report it with the browser's console."],
]);

const STALLED_AFTER_MS = 3_000;

/**
 * What keeps a turn from going on, in words; null where nothing does.
 * @param {object} turn
 * @param {import("../turnwire.js").LinkState} link
 */
export function heldWord(turn, link, now = performance.now()) {
  if (link.state !== "live") return link.delay_ms === null ? "Offline" : "Reconnecting";
  const silent_ms = turn.status === "running" && turn.lastAt !== null ? now - turn.lastAt : 0;
  return silent_ms > STALLED_AFTER_MS ? `Nothing new for ${Math.floor(silent_ms / 1000)} s` : null;
}

/**
 * What a turn does now.
 * @param {object} turn
 * @param {{status: string, at: number}} [told] the turn's last `turn.status`, and when it came, by `performance.now()`
 */
export function statusWord(turn, told) {
  if (turn.status === "running" && turn.parts.length > 0) return "Streaming";
  const known = told?.status === turn.status ? told : {};
  if (turn.status === "queued" && known.position) return known.position === 1 ? "Queued: next" : `Queued: number ${known.position}`;
  if (turn.status === "fallback" && known.model) return `Using ${known.model} instead`;
  if (turn.status === "retrying" && known.attempt) {
    const seconds = Math.ceil((known.at + known.delay_ms - performance.now()) / 1000);
    return `Trying again${seconds > 0 ? ` in ${seconds} s` : ""} (attempt ${known.attempt})`;
  }
  return STATUS.get(turn.status) ?? turn.status;
}

/** How an ended turn came to its end, in a few words; empty for a failure, which has a box of its own. */
export function endingWord(ending) {
  if (ending.type === "turn.completed") return FINISH.get(ending.finish_reason) ?? ending.finish_reason;
  if (ending.type === "turn.cancelled") return STOPPED_BY.get(ending.by) ?? "stopped";
  return "failed";
}

export function nextStep(error) {
  return NEXT_STEP.get(error.code) ?? (error.retryable ? "Try again." : "Change the request before trying again.");
}
