/** Measures the speed of each turn as its frames arrive: tokens per second, gaps, time to first token. Has no DOM. */

export const BUCKET_MS = 250;
export const WINDOW_MS = 30_000;
/** Slightly more than the window, so that a visible bucket is never overwritten. */
const BUCKETS = WINDOW_MS / BUCKET_MS + 8;
const TURNS_MAX = 40;
const RECENT_GAPS_MAX = 512;
const SMOOTHED_BUCKETS = 4;
const CHARS_PER_TOKEN = 4;
/** Longer deltas come from providers that put several tokens into one event. */
const CHARS_PER_EVENT_MAX = 8;

export class WireMeter {
  /** The newest is last. @type {Map<string, TurnMeter>} */
  turns = new Map();
  lastAt = 0;
  #connection;
  #nextNumber = 0;

  /** @param {import("../turnwire.js").Connection} connection its turns know when they were started */
  constructor(connection) {
    this.#connection = connection;
  }

  /** Adds a frame. @param {import("../turnwire.js").WireEntry} entry */
  add({ direction, frame, at }) {
    if (direction !== "in" || frame.turn === undefined) return;
    if (frame.type === "turn.delta" && frame.text) {
      this.#meterOf(frame.turn).addDelta(frame, at);
      this.lastAt = at;
    } else if (ENDINGS.has(frame.type)) {
      const meter = this.turns.get(frame.turn);
      if (meter) meter.ended = frame.type.slice("turn.".length);
    }
  }

  #meterOf(id) {
    let meter = this.turns.get(id);
    if (meter) return meter;
    const turn = this.#connection.running.find((turn) => turn.id === id);
    meter = new TurnMeter(id, this.#nextNumber++, turn);
    this.turns.set(id, meter);
    if (this.turns.size > TURNS_MAX) this.turns.delete(this.turns.keys().next().value);
    return meter;
  }
}

const ENDINGS = new Set(["turn.completed", "turn.cancelled", "turn.failed"]);

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
  #recentGaps = [];
  #nextRecent = 0;

  constructor(id, number, turn) {
    this.id = id;
    this.number = number;
    this.#turn = turn;
  }

  addDelta({ seq, after, text }, at) {
    const events = seq - (after ?? seq - 1);
    const tokens = text.length > events * CHARS_PER_EVENT_MAX ? text.length / CHARS_PER_TOKEN : events;
    this.tokens += tokens;
    this.#advance(at);
    this.#rates[this.#bucket % BUCKETS] += tokens;
    if (this.lastAt === null) this.#firstAt = at;
    else this.#addGap(at - this.lastAt);
    this.lastAt = at;
  }

  get ttft_ms() {
    const first = this.#turn?.firstAt ?? null;
    return first === null ? null : first - this.#turn.askedAt;
  }

  /**
   * Returns tokens per second: the current rate while it streams, the average after it has ended. Null if it
   * ended too soon for an average.
   * @param {number} now in ms from `performance.now()`
   */
  rate(now) {
    if (this.lastAt === null) return null;
    if (this.ended) return this.lastAt - this.#firstAt < BUCKET_MS ? null : (this.tokens / (this.lastAt - this.#firstAt)) * 1000;
    return this.rateAt(Math.floor(now / BUCKET_MS) - 1);
  }

  /** The median of the recent gaps. */
  get medianGap_ms() {
    if (this.#recentGaps.length === 0) return null;
    return this.#recentGaps.toSorted((a, b) => a - b)[Math.floor(this.#recentGaps.length / 2)];
  }

  /** Returns tokens per second, averaged over a bucket and the three before it. */
  rateAt(bucket) {
    let sum = 0;
    for (let index = bucket - SMOOTHED_BUCKETS + 1; index <= bucket; index++) sum += this.#valueAt(this.#rates, index);
    return sum / ((SMOOTHED_BUCKETS * BUCKET_MS) / 1000);
  }

  /** Returns the longest gap that ended in a bucket, in ms; 0: none did. */
  gapAt(bucket) {
    return this.#valueAt(this.#gaps, bucket);
  }

  #addGap(ms) {
    this.gapMax_ms = Math.max(this.gapMax_ms, ms);
    const slot = this.#bucket % BUCKETS;
    this.#gaps[slot] = Math.max(this.#gaps[slot], ms);
    if (this.#recentGaps.length < RECENT_GAPS_MAX) this.#recentGaps.push(ms);
    else this.#recentGaps[this.#nextRecent++ % RECENT_GAPS_MAX] = ms;
  }

  #valueAt(ring, bucket) {
    return bucket > this.#bucket || bucket <= this.#bucket - BUCKETS || bucket < 0 ? 0 : ring[bucket % BUCKETS];
  }

  #advance(at) {
    const bucket = Math.floor(at / BUCKET_MS);
    const from = Math.max(this.#bucket + 1, bucket - BUCKETS + 1);
    for (let index = from; index <= bucket; index++) this.#rates[index % BUCKETS] = this.#gaps[index % BUCKETS] = 0;
    this.#bucket = Math.max(this.#bucket, bucket);
  }
}
