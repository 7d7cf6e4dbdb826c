/** One turn's clock: time to first token, speed and total, as numbers and as short words. */

const CHARS_PER_TOKEN = 4;
/** Providers that send longer pieces than this put several tokens into one event. */
const CHARS_PER_EVENT_MAX = 8;
const RATE_NEEDS_MS = 250;

/** Measures what a person at this page waits for, from the moment of sending. */
export class Stopwatch {
  #startedAt = performance.now();
  #firstAt = null;
  #endedAt = null;
  #events = 0;
  #chars = 0;
  #timing = null;
  #replayed;

  /** @param {boolean} replayed the turn began before this page was loaded: only the gateway's own times count */
  constructor(replayed) {
    this.#replayed = replayed;
  }

  /** Takes a delta that brought text. */
  heard({ seq, after, text }) {
    this.#firstAt ??= performance.now();
    this.#events += seq - (after ?? seq - 1);
    this.#chars += text.length;
  }

  /** Takes the ending's `timing`, where there is one. */
  end(timing) {
    this.#endedAt ??= performance.now();
    this.#timing = timing ?? null;
  }

  get ttft_ms() {
    if (this.#replayed) return this.#timing?.ttft_ms ?? null;
    return this.#firstAt === null ? null : this.#firstAt - this.#startedAt;
  }

  get total_ms() {
    if (this.#replayed) return this.#timing?.total_ms ?? null;
    return (this.#endedAt ?? performance.now()) - this.#startedAt;
  }

  /** Tokens per second since the first token: the gateway's count once it is known, an estimate until then. */
  rate(usage) {
    const streaming_ms = this.ttft_ms === null ? 0 : this.total_ms - this.ttft_ms;
    if (streaming_ms < RATE_NEEDS_MS) return null;
    const estimate = this.#chars > this.#events * CHARS_PER_EVENT_MAX ? this.#chars / CHARS_PER_TOKEN : this.#events;
    const tokens = usage?.output_tokens ?? estimate;
    return { perSecond: (tokens / streaming_ms) * 1000, estimated: !usage || usage.estimated === true };
  }
}
