/**
 * Computes the wait before a reconnect: the delay from `going_away`; none after close code 4502, or if this client
 * replaces the socket, for example to switch the codec; otherwise exponential backoff with full jitter.
 */

import { LIFETIME_REACHED, SOCKET_DROPPED } from "./close_codes.js";

const BASE_MS = 500;
const CAP_MS = 20_000;
const STABLE_AFTER_MS = 5_000;

export class Backoff {
  #failures = 0;
  #readyAt = null;
  /** The delay from `going_away`, in ms. It applies to one reconnect. */
  #requested_ms = null;

  /** Records that an attempt begins, and clears the delay from `going_away`. */
  onConnecting() {
    this.#requested_ms = null;
  }

  /** Records when the socket became ready. @param {number} at in ms from `performance.now()` */
  onReady(at) {
    this.#readyAt = at;
  }

  /** Stores the delay from `going_away`, in ms. */
  setRequestedDelay(reconnect_after_ms) {
    this.#requested_ms = reconnect_after_ms ?? null;
  }

  /**
   * Records a lost socket. If it was ready for over 5 s, the backoff is reset.
   * @param {number} at in ms from `performance.now()`
   */
  onDisconnected(at) {
    const stable = this.#readyAt !== null && at - this.#readyAt > STABLE_AFTER_MS;
    this.#failures = stable ? 0 : this.#failures + 1;
    this.#readyAt = null;
  }

  /** Returns the wait before the next attempt, in ms. @param {number} code the close code */
  delay_ms(code) {
    if (this.#requested_ms !== null) return this.#requested_ms;
    if (code === LIFETIME_REACHED || code === SOCKET_DROPPED) return 0;
    return Math.random() * Math.min(CAP_MS, BASE_MS * 2 ** this.#failures);
  }
}
