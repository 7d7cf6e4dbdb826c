/** Detects a dead socket: some frame must arrive within 2.5 heartbeats. TCP alone may need many minutes. */

const READY_TIMEOUT_MS = 10_000;
const ANSWER_TIMEOUT_MS = 3_000;
const CHECK_EVERY_MS = 500;
const HEARTBEATS_MAX = 2.5;

export class Watchdog {
  #onTimeout;
  #limit_ms = READY_TIMEOUT_MS;
  #dueAt = 0;
  #timer = 0;

  /** @param {() => void} onTimeout called when nothing has arrived for too long */
  constructor(onTimeout) {
    this.#onTimeout = onTimeout;
  }

  /** Starts the watch over a socket that opens. It has 10 s for the first frame. */
  start() {
    this.stop();
    this.#limit_ms = READY_TIMEOUT_MS;
    this.reset(performance.now());
    this.#timer = setInterval(() => this.check(), CHECK_EVERY_MS);
  }

  /**
   * Applies the heartbeat that `ready` announced.
   * @param {number} heartbeat_s in s
   * @param {number} at in ms from `performance.now()`
   */
  setHeartbeat(heartbeat_s, at) {
    this.#limit_ms = heartbeat_s * 1000 * HEARTBEATS_MAX;
    this.reset(at);
  }

  /** Records that a frame arrived. @param {number} at in ms from `performance.now()` */
  reset(at) {
    this.#dueAt = at + this.#limit_ms;
  }

  /** Requires the next frame soon, by default within 3 s. Call it when a request is sent, so that an answer is due. */
  expectAnswer(within_ms = ANSWER_TIMEOUT_MS) {
    this.#dueAt = Math.min(this.#dueAt, performance.now() + within_ms);
  }

  /** Calls `onTimeout` if the next frame is overdue. */
  check() {
    if (performance.now() > this.#dueAt) this.#onTimeout();
  }

  stop() {
    clearInterval(this.#timer);
    this.#dueAt = Infinity;
  }
}
