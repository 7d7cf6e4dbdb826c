/**
 * What the shown conversation has cost so far, and what the next answer would cost before it is sent. Loaded after the page
 * is live. Errors are silent: both are only information.
 */

import { setText } from "../shared/dom.js";
import { formatCost, formatCount } from "../shared/format.js";

const ESTIMATE_AFTER_MS = 800;
const USAGE_AFTER_MS = 300;
/** How long nothing is asked after `rate_limited`. */
const PAUSE_MS = 60_000;

export class CostLine {
  #connection;
  #usage;
  #estimate;
  #estimateFields;
  #conversationId;
  #estimateTimer = 0;
  #usageTimer = 0;
  #isAsking = false;
  #pausedUntil = 0;
  /** The fields of the shown estimate, as JSON. */
  #shown = "";

  /**
   * @param {import("../turnwire.js").Connection} connection
   * @param {HTMLElement} usage shows the tokens and the cost of the conversation
   * @param {HTMLElement} estimate shows those of the next answer
   * @param {() => object | null} estimateFields returns the fields of the next start; null if there is nothing to estimate
   * @param {() => string | null} conversationId of the shown conversation
   */
  constructor(connection, usage, estimate, estimateFields, conversationId) {
    this.#connection = connection;
    this.#usage = usage;
    this.#estimate = estimate;
    this.#estimateFields = estimateFields;
    this.#conversationId = conversationId;
  }

  /** The prompt, the model or the conversation has changed. */
  onChange() {
    const fields = this.#estimateFields();
    if (!fields) this.#showEstimate("");
    if (JSON.stringify(fields) === this.#shown) return;
    clearTimeout(this.#estimateTimer);
    if (fields) this.#estimateTimer = setTimeout(() => void this.#ask(), ESTIMATE_AFTER_MS);
  }

  /** An answer has ended, or another conversation is shown. */
  onUsage() {
    clearTimeout(this.#usageTimer);
    if (!this.#conversationId()) this.#showUsage(null);
    else this.#usageTimer = setTimeout(() => void this.#askUsage(), USAGE_AFTER_MS);
  }

  async #ask() {
    const fields = this.#estimateFields();
    if (performance.now() < this.#pausedUntil) return this.#showEstimate("");
    if (!fields || this.#isAsking) return;
    this.#isAsking = true;
    const asked = JSON.stringify(fields);
    let text = "";
    let title = "";
    try {
      const result = await this.#connection.request("turn.estimate", fields);
      text = estimateText(result);
      title = "The input of the next answer, counted at three bytes a token, so usually too high; the highest cost has the longest answer";
    } catch (error) {
      if (error.code === "rate_limited") this.#pausedUntil = performance.now() + PAUSE_MS;
    }
    this.#isAsking = false;
    if (JSON.stringify(this.#estimateFields()) === asked) this.#showEstimate(text, title, asked);
    else this.onChange();
  }

  async #askUsage() {
    const conversation = this.#conversationId();
    if (!conversation || this.#connection.state.state !== "live") return;
    const result = await this.#connection.request("usage.get", { conversation }).catch(() => null);
    if (conversation === this.#conversationId()) this.#showUsage(result);
  }

  #showUsage(result) {
    const { input_tokens: input = 0, output_tokens: output = 0 } = result?.usage ?? {};
    const parts = [input + output > 0 && `${formatCount(input + output)} tokens`, formatCost(result?.cost)].filter(Boolean);
    this.#usage.hidden = parts.length === 0;
    setText(this.#usage, parts.join(" · "));
    this.#usage.title = `This conversation: ${formatCount(input)} tokens of input, ${formatCount(output)} of output`;
  }

  #showEstimate(text, title = "", shown = "") {
    this.#shown = shown;
    setText(this.#estimate, text);
    this.#estimate.title = title;
    this.#estimate.hidden = text === "";
  }
}

/** Returns an estimate as text: `≈ 1,240 tokens, $0.002–0.03`. */
export function estimateText({ input_tokens, cost, cost_max, trimmed }) {
  const price = costRange(cost, cost_max);
  const omitted = trimmed > 0 ? `, ${trimmed} message${trimmed === 1 ? "" : "s"} left out` : "";
  return `≈ ${formatCount(input_tokens)} token${input_tokens === 1 ? "" : "s"}${price && `, ${price}`}${omitted}`;
}

function costRange(from, to) {
  if (!from) return "";
  const [low, high] = [from, to ?? from].map(({ amount }) => short(Number(amount)));
  const range = low === high ? low : `${low}–${high}`;
  return from.currency === "USD" ? `$${range}` : `${range} ${from.currency}`;
}

/** Returns an amount with two digits that aren't zero, without an exponent. */
function short(amount) {
  if (!(amount > 0)) return "0";
  const decimals = Math.max(2, 1 - Math.floor(Math.log10(amount)));
  return amount.toFixed(Math.min(9, decimals)).replace(/(\.\d\d\d*?)0+$/, "$1");
}
