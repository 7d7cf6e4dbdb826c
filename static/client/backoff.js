/** When a lost socket is opened again: full jitter over a growing span, or when the gateway said. */

import { LIFETIME_REACHED } from "./close_codes.js";

const BASE_MS = 500;
const CAP_MS = 20_000;
const STEADY_AFTER_MS = 5_000;

export class Backoff {
  #attempt = 0;
  #liveSince = null;
  /** What a `going_away` said; for one socket. */
  #asked_ms = null;

  /** Another socket is tried. */
  opening() {
    this.#asked_ms = null;
  }

  /** It is ready. */
  live(at) {
    this.#liveSince = at;
  }

  /** The gateway says when it is to be opened again. */
  goingAway(reconnect_after_ms) {
    this.#asked_ms = reconnect_after_ms ?? null;
  }

  /** The socket is gone. One that held for a while begins the span anew. */
  lost(at) {
    const steady = this.#liveSince !== null && at - this.#liveSince > STEADY_AFTER_MS;
    this.#attempt = steady ? 0 : this.#attempt + 1;
    this.#liveSince = null;
  }

  /** How long to wait, in ms. */
  delay_ms(code) {
    if (this.#asked_ms !== null) return this.#asked_ms;
    if (code === LIFETIME_REACHED) return 0;
    return Math.random() * Math.min(CAP_MS, BASE_MS * 2 ** this.#attempt);
  }
}
