/** Speed of each turn, measured where its frames arrive: tokens per second, gaps, time to first token. Knows no DOM. */

export const BUCKET_MS = 250;
export const WINDOW_MS = 30_000;
/** A little more than the window, so that what leaves it is not overwritten while it is seen. */
const BUCKETS = WINDOW_MS / BUCKET_MS + 8;
const TURNS_MAX = 40;
const GAPS_KEPT = 512;
const SMOOTH_BUCKETS = 4;
const CHARS_PER_TOKEN = 4;
/** Providers that send longer pieces than this put several tokens into one event. */
const CHARS_PER_EVENT_MAX = 8;

export class WireMeter {
  /** @type {Map<string, TurnMeter>} the newest last */
  turns = new Map();
  lastAt = 0;
  #connection;
  #number = 0;

  /** @param {import("../turnwire.js").Connection} connection knows when a turn was asked */
  constructor(connection) {
    this.#connection = connection;
  }

  /** @param {import("../turnwire.js").WireEntry} entry */
  take({ direction, frame, at }) {
    if (direction !== "in" || frame.turn === undefined) return;
    if (frame.type === "turn.delta" && frame.text) {
      this.#meterOf(frame.turn).heard(frame, at);
      this.lastAt = at;
    } else if (ENDED.has(frame.type)) {
      const meter = this.turns.get(frame.turn);
      if (meter) meter.ended = frame.type.slice("turn.".length);
    }
  }

  #meterOf(id) {
    let meter = this.turns.get(id);
    if (meter) return meter;
    const turn = this.#connection.running.find((one) => one.id === id);
    meter = new TurnMeter(id, this.#number++, turn);
    this.turns.set(id, meter);
    if (this.turns.size > TURNS_MAX) this.turns.delete(this.turns.keys().next().value);
    return meter;
  }
}

const ENDED = new Set(["turn.completed", "turn.cancelled", "turn.failed"]);

class TurnMeter {
  tokens = 0;
  lastAt = null;
  gapMax_ms = 0;
  ended = null;
  #turn;
  #firstAt = null;
  #rates = new Float32Array(BUCKETS);
  #gaps = new Float32Array(BUCKETS);
  #bucket = 0;
  #recent = [];
  #recentAt = 0;

  constructor(id, number, turn) {
    this.id = id;
    this.number = number;
    this.#turn = turn;
  }

  heard({ seq, after, text }, at) {
    const events = seq - (after ?? seq - 1);
    const tokens = text.length > events * CHARS_PER_EVENT_MAX ? text.length / CHARS_PER_TOKEN : events;
    this.tokens += tokens;
    this.#roll(at);
    this.#rates[this.#bucket % BUCKETS] += tokens;
    if (this.lastAt === null) this.#firstAt = at;
    else this.#gap(at - this.lastAt);
    this.lastAt = at;
  }

  get ttft_ms() {
    const first = this.#turn?.firstAt ?? null;
    return first === null ? null : first - this.#turn.askedAt;
  }

  /** Tokens per second: now while it streams, all in all after that. */
  rate(now) {
    if (this.lastAt === null) return null;
    if (this.ended) return this.lastAt - this.#firstAt < BUCKET_MS ? null : (this.tokens / (this.lastAt - this.#firstAt)) * 1000;
    return this.rateAt(Math.floor(now / BUCKET_MS) - 1);
  }

  /** The middle of the last gaps. */
  get gap_ms() {
    if (this.#recent.length === 0) return null;
    return this.#recent.toSorted((a, b) => a - b)[Math.floor(this.#recent.length / 2)];
  }

  /** Tokens per second around a bucket. */
  rateAt(bucket) {
    let sum = 0;
    for (let one = bucket - SMOOTH_BUCKETS + 1; one <= bucket; one++) sum += this.#at(this.#rates, one);
    return sum / ((SMOOTH_BUCKETS * BUCKET_MS) / 1000);
  }

  /** The longest gap that ended in a bucket; 0: none did. */
  gapAt(bucket) {
    return this.#at(this.#gaps, bucket);
  }

  #gap(ms) {
    this.gapMax_ms = Math.max(this.gapMax_ms, ms);
    const slot = this.#bucket % BUCKETS;
    this.#gaps[slot] = Math.max(this.#gaps[slot], ms);
    if (this.#recent.length < GAPS_KEPT) this.#recent.push(ms);
    else this.#recent[this.#recentAt++ % GAPS_KEPT] = ms;
  }

  #at(ring, bucket) {
    return bucket > this.#bucket || bucket <= this.#bucket - BUCKETS || bucket < 0 ? 0 : ring[bucket % BUCKETS];
  }

  #roll(at) {
    const bucket = Math.floor(at / BUCKET_MS);
    const from = Math.max(this.#bucket + 1, bucket - BUCKETS + 1);
    for (let one = from; one <= bucket; one++) this.#rates[one % BUCKETS] = this.#gaps[one % BUCKETS] = 0;
    this.#bucket = Math.max(this.#bucket, bucket);
  }
}
