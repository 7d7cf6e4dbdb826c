/**
 * One socket that comes back: opening, liveness, close codes and reconnection with full jitter.
 * It knows frames only by `ready`, `going_away` and `auth.expiring`; requests and turns are `turnwire.js`.
 */

const SUBPROTOCOL = "turnwire.v1.json";
const READY_TIMEOUT_MS = 10_000;
const BACKOFF_BASE_MS = 500;
const BACKOFF_CAP_MS = 20_000;
const STEADY_AFTER_MS = 5_000;
const LIVENESS_CHECK_MS = 1_000;
const LIVENESS_HEARTBEATS = 2.5;

/** What a close code means to a person. Codes that are missing here are just a lost connection. */
const CLOSE_REASONS = new Map([
  [4400, "The gateway could not understand this page"],
  [4401, "Sign-in is missing or has expired"],
  [4403, "This user may not connect"],
  [4408, "The gateway asked for a sign-in"],
  [4409, "Too many connections for this user"],
  [4501, "This page read too slowly"],
  [4502, "The connection reached its age limit"],
  [4503, "The gateway is restarting"],
]);

/**
 * @typedef {{state: "connecting"}
 *   | {state: "live", ready: object}
 *   | {state: "waiting", delay_ms: number, reason: string}
 *   | {state: "closed", code: number, reason: string}} LinkState
 */

/** A WebSocket that is opened again until it is closed on purpose or told not to come back (44xx). */
export class Link {
  #url;
  #token;
  #onFrame;
  #onState;
  #socket = null;
  #state = { state: "connecting" };
  #attempt = 0;
  #liveSince = 0;
  #lastArrival = 0;
  #silenceLimit_ms = READY_TIMEOUT_MS;
  #reconnectAfter_ms = null;
  #retryTimer = 0;
  #livenessTimer = 0;

  /**
   * @param {object} options
   * @param {string} options.url ws: or wss: address of the gateway
   * @param {(() => string | Promise<string>) | undefined} options.token gives a credential for the `auth` frame
   * @param {(frame: object) => void} options.onFrame every decoded frame, `ready` included
   * @param {(state: LinkState) => void} options.onState every change of state
   */
  constructor({ url, token, onFrame, onState }) {
    this.#url = url;
    this.#token = token;
    this.#onFrame = onFrame;
    this.#onState = onState;
    globalThis.addEventListener?.("online", this.#wake);
    this.#open();
  }

  get state() {
    return this.#state;
  }

  /** Sends one frame. False when the connection is not live; nothing was sent then. */
  send(text) {
    if (this.#state.state !== "live" || this.#socket.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(text);
    return true;
  }

  /** Tries again at once instead of waiting out the delay. */
  retryNow() {
    if (this.#state.state === "waiting") this.#open();
  }

  /** Leaves for good. */
  close() {
    this.#drop(1000);
    this.#settle(1000, "Closed by this page");
  }

  #wake = () => this.retryNow();

  #open() {
    clearTimeout(this.#retryTimer);
    this.#lastArrival = performance.now();
    this.#silenceLimit_ms = READY_TIMEOUT_MS;
    this.#reconnectAfter_ms = null;
    this.#set({ state: "connecting" });
    const socket = new WebSocket(this.#url, [SUBPROTOCOL]);
    this.#socket = socket;
    socket.onopen = () => void this.#authenticate(socket);
    socket.onmessage = (message) => this.#arrived(message.data);
    socket.onclose = (event) => this.#lost(event.code, event.reason);
    clearInterval(this.#livenessTimer);
    this.#livenessTimer = setInterval(() => this.#checkLiveness(), LIVENESS_CHECK_MS);
  }

  async #authenticate(socket) {
    if (!this.#token) return;
    try {
      const token = await this.#token();
      if (socket === this.#socket && socket.readyState === WebSocket.OPEN) {
        socket.send(JSON.stringify({ type: "auth", token }));
      }
    } catch (cause) {
      console.error("turnwire: no credential could be had", cause);
      this.#drop(1000);
      this.#lost(4401, "");
    }
  }

  #arrived(data) {
    this.#lastArrival = performance.now();
    const frame = JSON.parse(data);
    if (frame.type === "ready") {
      this.#silenceLimit_ms = frame.heartbeat_s * 1000 * LIVENESS_HEARTBEATS;
      this.#liveSince = this.#lastArrival;
      this.#set({ state: "live", ready: frame });
    } else if (frame.type === "going_away") {
      this.#reconnectAfter_ms = frame.reconnect_after_ms ?? null;
    } else if (frame.type === "auth.expiring") {
      void this.#authenticate(this.#socket);
    }
    this.#onFrame(frame);
  }

  #checkLiveness() {
    if (performance.now() - this.#lastArrival <= this.#silenceLimit_ms) return;
    this.#drop(4000);
    this.#lost(0, "Nothing was heard from the gateway");
  }

  /** Lets go of the socket without waiting for its closing handshake, which a dead peer never answers. */
  #drop(code) {
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(code);
  }

  #lost(code, detail) {
    clearInterval(this.#livenessTimer);
    this.#socket = null;
    const reason = CLOSE_REASONS.get(code) ?? (detail || "The connection was lost");
    if (code >= 4400 && code < 4500) {
      this.#settle(code, reason);
      return;
    }
    const steady = this.#liveSince > 0 && performance.now() - this.#liveSince > STEADY_AFTER_MS;
    this.#attempt = steady ? 0 : this.#attempt + 1;
    this.#liveSince = 0;
    const delay_ms = this.#delay(code);
    this.#set({ state: "waiting", delay_ms, reason });
    this.#retryTimer = setTimeout(() => this.#open(), delay_ms);
  }

  #delay(code) {
    if (this.#reconnectAfter_ms !== null) return this.#reconnectAfter_ms;
    if (code === 4502) return 0;
    return Math.random() * Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** this.#attempt);
  }

  #settle(code, reason) {
    clearTimeout(this.#retryTimer);
    clearInterval(this.#livenessTimer);
    globalThis.removeEventListener?.("online", this.#wake);
    this.#set({ state: "closed", code, reason });
  }

  #set(state) {
    this.#state = state;
    this.#onState(state);
  }
}
