/** Measures one turn: time to first token, total time and speed. */

const CHARS_PER_TOKEN = 4;
/** A higher average means that the provider puts several tokens into one event. */
const CHARS_PER_EVENT_MAX = 8;
const RATE_AFTER_MS = 250;

/** Measures what the user waits for, from the moment of sending. */
export class TurnTimer {
  #startedAt = performance.now();
  #firstAt = null;
  #endedAt = null;
  #events = 0;
  #chars = 0;
  #timing = null;
  #isReplay;

  /** @param {boolean} isReplay it is unknown when the prompt was sent, so only the gateway's times are valid */
  constructor(isReplay) {
    this.#isReplay = isReplay;
  }

  /** Counts a delta that has text. */
  addDelta({ seq, after, text }) {
    this.#firstAt ??= performance.now();
    this.#events += seq - (after ?? seq - 1);
    this.#chars += text.length;
  }

  /** Stops the timer. @param {object} [timing] of the ending */
  stop(timing) {
    this.#endedAt ??= performance.now();
    this.#timing = timing ?? null;
  }

  get ttft_ms() {
    if (this.#isReplay) return this.#timing?.ttft_ms ?? null;
    return this.#firstAt === null ? null : this.#firstAt - this.#startedAt;
  }

  get total_ms() {
    if (this.#isReplay) return this.#timing?.total_ms ?? null;
    return (this.#endedAt ?? performance.now()) - this.#startedAt;
  }

  /**
   * Returns the tokens per second after the first token: from the gateway's count if it is known, else an estimate.
   * Null until 250 ms after the first token.
   */
  rate(usage) {
    const streaming_ms = this.ttft_ms === null ? 0 : this.total_ms - this.ttft_ms;
    if (streaming_ms < RATE_AFTER_MS) return null;
    const estimate = this.#chars > this.#events * CHARS_PER_EVENT_MAX ? this.#chars / CHARS_PER_TOKEN : this.#events;
    const tokens = usage?.output_tokens ?? estimate;
    return { perSecond: (tokens / streaming_ms) * 1000, estimated: !usage || usage.estimated === true };
  }
}
