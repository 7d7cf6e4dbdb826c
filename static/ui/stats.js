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

/** 84 ms, 1.24 s, 12.4 s, 2 m 05 s; a dash for what isn't known. */
export function duration(ms) {
  if (ms === null) return "–";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(2)} s`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} m ${String(seconds % 60).padStart(2, "0")} s`;
}

/** 1,234,567; the first number that a browser formats itself costs it a frame. */
export function grouped(number) {
  return String(number).replace(/\B(?=(?:\d{3})+$)/g, ",");
}

/** ≈ 41 tok/s while it is estimated. */
export function speed(rate) {
  if (rate === null) return "–";
  const number = rate.perSecond < 10 ? rate.perSecond.toFixed(1) : String(Math.round(rate.perSecond));
  return `${rate.estimated ? "≈ " : ""}${number} tok/s`;
}

/** Prices are amounts as text; only the zeros that say nothing go. */
export function price(cost) {
  if (!cost || Number(cost.amount) === 0) return null;
  const amount = cost.amount.replace(/(\.\d\d\d*?)0+$/, "$1");
  return cost.currency === "USD" ? `$${amount}` : `${amount} ${cost.currency}`;
}
