/**
 * One socket that comes back: opening it with its credential, sending, reading, losing it and opening it again.
 * It knows frames only by `ready`, `going_away` and `auth.expiring`; requests and turns are `connection.js`.
 */

import { Backoff } from "./backoff.js";
import { closeReason, DONE, isFinal, LET_GO, LIFETIME_REACHED, UNAUTHENTICATED } from "./close_codes.js";
import { codecOf } from "./codecs.js";
import { closed, TurnwireError } from "./errors.js";
import { Liveness } from "./watchdog.js";
import { WorkerSocket } from "./worker_socket.js";

/** A WebSocket that is opened again until it is closed on purpose or told not to come back (44xx). */
export class Link {
  /** Takes every frame that goes or comes, while somebody looks. */
  wire = null;
  /** What went over all sockets of this link so far. */
  traffic = { sockets: 0, in: { frames: 0, bytes: 0 }, out: { frames: 0, bytes: 0 } };
  #options;
  #codec;
  #makeSocket;
  #socket = null;
  #state = { state: "connecting" };
  #opening = 0;
  #retryTimer = 0;
  #backoff = new Backoff();
  #liveness = new Liveness(() => {
    this.#letGo();
    this.#lost(0, "Nothing was heard from the gateway");
  });
  #offline = false;
  #credentialRefused = false;
  #watchers = [];

  /**
   * @param {object} options
   * @param {string} options.url ws: or wss: address of the gateway
   * @param {"json" | "msgpack"} options.codec
   * @param {() => string | Promise<string>} [options.token] gives a credential for the `auth` frame
   * @param {() => string | Promise<string>} [options.ticket] gives a one-time ticket for one opening
   * @param {(url: string, protocols: string[]) => WebSocket} [options.socket] opens a socket
   * @param {(frame: object, at: number) => void} options.onFrame every decoded frame, `ready` included, and its arrival
   * @param {(expires_at: string) => void} options.onExpiring the credential must be renewed
   * @param {() => void} options.onWake the page or the network came back: the gateway must be asked something
   * @param {(state: import("../turnwire.js").LinkState) => void} options.onState every change of state
   */
  constructor(options) {
    this.#options = options;
    this.#codec = codecOf(options.codec);
    this.#makeSocket = options.socket ?? ((url, protocols) => new WebSocket(url, protocols));
    globalThis.addEventListener?.("online", this.#wake);
    globalThis.document?.addEventListener("visibilitychange", this.#wake);
    void this.#open();
  }

  get state() {
    return this.#state;
  }

  get codec() {
    return this.#codec.name;
  }

  /**
   * Sends one frame. False when the connection is not live; nothing was sent then.
   * @throws {TurnwireError} `too_large`: the gateway would close the socket
   */
  send(frame) {
    if (this.#state.state !== "live" || this.#socket.readyState !== 1) return false;
    const data = this.#codec.encode(frame);
    const bytes = this.#codec.bytes(data);
    if (bytes > this.#state.ready.limits.frame_bytes) {
      throw new TurnwireError({ code: "too_large", message: "This is too long for one frame. Shorten it, or send it over HTTP." });
    }
    this.#socket.send(data);
    this.#count("out", frame.type === "auth" ? { ...frame, token: "…" } : frame, bytes, performance.now());
    return true;
  }

  /** Tries again at once instead of waiting out the delay. */
  retryNow() {
    if (this.#state.state === "waiting" && !this.#offline) void this.#open();
  }

  /** Goes on with another codec, on another socket. */
  switchCodec(name) {
    this.#codec = codecOf(name);
    this.#again();
  }

  /** Lets go of the socket as if the network had; it comes back by itself. */
  drop() {
    if (this.#state.state === "closed" || !this.#socket) return;
    this.#letGo();
    this.#lost(0, "Dropped by this page");
  }

  /** As without a network, until `online` is called. */
  offline() {
    if (this.#state.state === "closed") return;
    this.#offline = true;
    this.#letGo();
    this.#lost(0, "Offline, as this page asked");
  }

  online() {
    this.#offline = false;
    this.retryNow();
  }

  /** Reads nothing for so long; resolves when reading goes on. See worker_socket.js for how, and why so. */
  async pauseReading(ms) {
    if (!WorkerSocket.supported) {
      throw new TurnwireError({ code: "unsupported", message: "Reading can be paused in a browser only: there is no Worker here." });
    }
    if (!(this.#socket instanceof WorkerSocket)) {
      this.#makeSocket = (url, protocols) => new WorkerSocket(url, protocols);
      this.#again();
    }
    while (this.#state.state !== "live") {
      if (this.#state.state === "closed") throw closed(this.#state.reason);
      await new Promise((resolve) => this.#watchers.push(resolve));
    }
    await this.#socket.pause(ms);
  }

  /** Leaves for good. */
  close() {
    this.#letGo(DONE);
    this.#settle(DONE, "Closed by this page");
  }

  #wake = () => {
    if (globalThis.document?.visibilityState === "hidden") return;
    this.retryNow();
    // After a sleep, or on another network, the socket may be long dead; timers that slept too would find out late.
    if (this.#state.state === "live" || this.#state.state === "connecting") this.#liveness.check();
    if (this.#state.state !== "live") return;
    this.#liveness.demand();
    this.#options.onWake();
  };

  async #open() {
    clearTimeout(this.#retryTimer);
    const opening = ++this.#opening;
    this.#backoff.opening();
    this.#liveness.begin();
    this.#set({ state: "connecting" });
    try {
      const url = await this.#address();
      const token = await this.#options.token?.();
      if (opening === this.#opening) this.#listen(this.#makeSocket(url, [this.#codec.subprotocol]), token);
    } catch (cause) {
      if (opening === this.#opening) this.#notOpened(cause);
    }
  }

  async #address() {
    if (!this.#options.ticket) return this.#options.url;
    const url = new URL(this.#options.url);
    url.searchParams.set("ticket", await this.#options.ticket());
    return url.href;
  }

  #listen(socket, token) {
    const codec = this.#codec;
    this.#socket = socket;
    this.traffic.sockets++;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => token && this.#authenticate(token);
    socket.onmessage = (message) => this.#arrived(message.data, codec);
    socket.onclose = (event) => this.#lost(event.code, event.reason);
  }

  /** The first frame, before `ready`; a refusal is told by the close code. */
  #authenticate(token) {
    const data = this.#codec.encode({ type: "auth", token });
    this.#socket.send(data);
    this.#count("out", { type: "auth", token: "…" }, this.#codec.bytes(data), performance.now());
  }

  #notOpened(cause) {
    if (cause?.retryable === false) {
      this.#letGo();
      this.#settle(UNAUTHENTICATED, cause.message || closeReason(UNAUTHENTICATED));
      return;
    }
    // Whoever gives credentials is often as far away as the gateway: it will come back too.
    console.warn("turnwire: no socket could be opened; trying again", cause);
    this.#lost(0, "No socket could be opened");
  }

  #arrived(data, codec) {
    const at = performance.now();
    this.#liveness.heard(at);
    let frame;
    try {
      frame = codec.decode(data);
      if (typeof frame?.type !== "string") throw new TypeError("It has no type.");
    } catch (cause) {
      console.error("turnwire: a frame can't be read", cause);
      this.#letGo();
      this.#lost(0, "The gateway sent something unreadable");
      return;
    }
    this.#count("in", frame, codec.bytes(data), at);
    if (frame.type === "ready") this.#ready(frame, at);
    else if (frame.type === "going_away") this.#backoff.goingAway(frame.reconnect_after_ms);
    else if (frame.type === "auth.expiring") this.#options.onExpiring(frame.expires_at);
    this.#options.onFrame(frame, at);
  }

  #ready(frame, at) {
    this.#liveness.expect(frame.heartbeat_s, at);
    this.#backoff.live(at);
    this.#credentialRefused = false;
    this.#set({ state: "live", ready: frame });
  }

  #count(direction, frame, bytes, at) {
    const sum = this.traffic[direction];
    sum.frames++;
    sum.bytes += bytes;
    try {
      this.wire?.({ direction, frame, bytes, at, codec: this.#codec.name, socket: this.traffic.sockets });
    } catch (error) {
      console.error("turnwire: the wire observer failed", error); // a frame isn't lost for who looks at it
    }
  }

  /** Lets go of the socket without waiting for its closing handshake, which a dead peer never answers. */
  #letGo(code = LET_GO) {
    const socket = this.#socket;
    this.#socket = null;
    this.#opening++;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(code);
  }

  /** Goes on at once, on a new socket. */
  #again() {
    if (this.#state.state === "closed" || this.#offline) return;
    this.#letGo();
    this.#lost(LIFETIME_REACHED, "");
  }

  #lost(code, detail) {
    this.#liveness.stop();
    clearTimeout(this.#retryTimer);
    this.#socket = null;
    const reason = closeReason(code) ?? (detail || "The connection was lost");
    if (isFinal(code) && !this.#mayAskAgain(code)) {
      this.#settle(code, reason);
      return;
    }
    this.#backoff.lost(performance.now());
    const delay_ms = this.#offline ? null : this.#backoff.delay_ms(code);
    this.#set({ state: "waiting", delay_ms, reason });
    if (delay_ms !== null) this.#retryTimer = setTimeout(() => void this.#open(), delay_ms);
  }

  /** A credential that expired is no reason to stay away where a fresh one can be had; once, until one is taken. */
  #mayAskAgain(code) {
    const fresh = code === UNAUTHENTICATED && !this.#credentialRefused && (this.#options.token ?? this.#options.ticket);
    this.#credentialRefused = true;
    return Boolean(fresh);
  }

  #settle(code, reason) {
    clearTimeout(this.#retryTimer);
    this.#liveness.stop();
    globalThis.removeEventListener?.("online", this.#wake);
    globalThis.document?.removeEventListener("visibilitychange", this.#wake);
    this.#set({ state: "closed", code, reason });
  }

  #set(state) {
    this.#state = state;
    this.#options.onState(state);
    for (const resolve of this.#watchers.splice(0)) resolve();
  }
}
