/** Whether a socket still lives: something must be heard every few heartbeats. TCP alone may take many minutes to tell. */

const READY_TIMEOUT_MS = 10_000;
const ANSWER_TIMEOUT_MS = 3_000;
const CHECK_EVERY_MS = 500;
const HEARTBEATS = 2.5;

export class Liveness {
  #silent;
  #limit_ms = READY_TIMEOUT_MS;
  #dueAt = 0;
  #timer = 0;

  /** @param {() => void} silent nothing was heard for too long */
  constructor(silent) {
    this.#silent = silent;
  }

  /** Another socket is opened: it has some seconds to be ready. */
  begin() {
    this.stop();
    this.#limit_ms = READY_TIMEOUT_MS;
    this.heard(performance.now());
    this.#timer = setInterval(() => this.check(), CHECK_EVERY_MS);
  }

  /** It is ready, and has promised a heartbeat. */
  expect(heartbeat_s, at) {
    this.#limit_ms = heartbeat_s * 1000 * HEARTBEATS;
    this.heard(at);
  }

  heard(at) {
    this.#dueAt = at + this.#limit_ms;
  }

  /** It was asked something: the answer won't take long. */
  demand() {
    this.#dueAt = Math.min(this.#dueAt, performance.now() + ANSWER_TIMEOUT_MS);
  }

  check() {
    if (performance.now() > this.#dueAt) this.#silent();
  }

  stop() {
    clearInterval(this.#timer);
  }
}
