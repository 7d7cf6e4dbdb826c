/**
 * A WebSocket that reconnects. It opens with a credential, sends, receives, and opens again after a loss.
 *
 * It interprets only the frames `ready`, `going_away` and `auth.expiring`. connection.js handles requests and turns.
 */

import { Backoff } from "./backoff.js";
import { closeReason, isFinal, NORMAL_CLOSURE, SOCKET_DROPPED, UNAUTHENTICATED } from "./close_codes.js";
import { codecOf, codecs, PROTOCOL } from "./codecs.js";
import { callListener } from "./emitter.js";
import { connectionClosed, FrameTooLarge, notEncodable, TurnwireError } from "./errors.js";
import { GatewayCheck, unknownProtocol } from "./gateway_check.js";
import { isLoopback, Network } from "./network.js";
import { isPage, socketCreator } from "./socket_creator.js";
import { Watchdog } from "./watchdog.js";
import { WorkerSocket } from "./worker_socket.js";

/** While there is no network, how often it is tried all the same: `online` may never come. */
const TRY_EVERY_MS = 15_000;
/** How soon a gateway on this machine has to answer after the network was lost. */
const SUSPECT_MS = 1_000;
/** How long a socket may take to open before the gateway is asked over HTTP. */
const OPENING_MS = 4_000;
/** How long after an error the socket's own `close` is waited for. */
const ERROR_MS = 100;

/**
 * A WebSocket that opens again until it is closed on purpose, refused for good (44xx), or can't get a credential. Where the
 * gateway answers but no WebSocket opens, an HttpSocket takes its place until one opens again.
 */
export class ReconnectingSocket {
  /** Receives every frame that is sent or received. Null: no observer. */
  wire = null;
  /** Totals over all sockets so far. */
  traffic = { sockets: 0, in: { frames: 0, bytes: 0 }, out: { frames: 0, bytes: 0 } };
  #options;
  #codec;
  #createSocket;
  #socket = null;
  /** The codec of the current socket. */
  #socketCodec;
  /** Whether the next opening uses HTTP. */
  #usesHttp;
  #openingTimer = 0;
  /** Tries a WebSocket while HTTP is used. */
  #probe = null;
  #state = { state: "connecting" };
  #attempt = 0;
  #retryTimer = 0;
  /** When the next socket is opened, in ms from `performance.now()`. */
  #retryAt = 0;
  #backoff = new Backoff();
  #watchdog = new Watchdog(() => {
    this.#dropSocket();
    this.#onLost(0, "No response from the gateway");
  });
  #offline = false;
  #isLocal;
  #network;
  #check;
  #credentialRefused = false;
  #needsTicket = false;
  #stateWaiters = [];

  /**
   * @param {object} options
   * @param {string} options.url ws: or wss: address of the gateway
   * @param {"json" | "msgpack"} options.codec
   * @param {() => string | Promise<string>} [options.token] returns a credential for the `auth` frame
   * @param {() => string | Promise<string>} [options.ticket] returns a one-time ticket for one socket; empty: none is needed
   * @param {(url: string, protocols: string[]) => WebSocket} [options.socket] creates a socket
   * @param {typeof WebSocket} [options.webSocket] the class of sockets; null: there is none
   * @param {"auto" | "socket" | "http"} options.transport
   * @param {() => boolean} options.isIdle whether no turn is running, and no request waits
   * @param {(frame: object, at: number) => void} options.onFrame receives every decoded frame, including `ready`, and
   *   its arrival in ms from `performance.now()`
   * @param {(expires_at: string) => void} options.onExpiring the credential must be renewed
   * @param {() => void} options.onWake the page or the network is back; the callback must send a request
   * @param {(state: import("../turnwire.js").ConnectionState) => void} options.onState receives every state change
   */
  constructor(options) {
    this.#options = options;
    this.#codec = codecOf(options.codec);
    this.#createSocket = options.socket ?? socketCreator(options.webSocket);
    this.#usesHttp = options.transport === "http" || !this.#createSocket;
    this.#isLocal = isLoopback(options.url);
    this.#check = new GatewayCheck(options.url);
    this.#network = new Network(() => this.#onNetworkLost(), () => this.#onNetworkBack());
    globalThis.document?.addEventListener("visibilitychange", this.#onWake);
    void this.#open();
  }

  get state() {
    return this.#state;
  }

  get codec() {
    return this.#codec.name;
  }

  get transport() {
    return this.#usesHttp ? "http" : "socket";
  }

  /**
   * Sends one frame. Returns false, and sends nothing, if the connection is not live.
   * @throws {TurnwireError} `too_large`: the gateway would close the socket; `invalid_request`: it can't be encoded
   */
  send(frame) {
    if (this.#state.state !== "live" || this.#socket.readyState !== 1) return false;
    const data = encoded(this.#socketCodec, frame);
    const bytes = this.#socketCodec.bytes(data);
    if (bytes > this.#state.ready.limits.frame_bytes) {
      throw new FrameTooLarge();
    }
    this.#socket.send(data);
    this.#record("out", frame.type === "auth" ? { ...frame, token: "…" } : frame, bytes, performance.now());
    return true;
  }

  /** Reconnects now instead of waiting. */
  retryNow() {
    if (this.#state.state === "waiting" && !this.#offline) void this.#open();
  }

  /** Reconnects with another codec. */
  switchCodec(name) {
    this.#codec = codecOf(name);
    this.#reopen();
  }

  /** Drops the socket as if the network had failed. It reconnects by itself. */
  drop() {
    if (this.#state.state === "closed" || !this.#socket) return;
    this.#dropSocket();
    this.#onLost(0, "Dropped by this page");
  }

  /** Stays disconnected until `online` is called. */
  offline() {
    if (this.#state.state === "closed") return;
    this.#offline = true;
    this.#dropSocket();
    this.#onLost(0, "Taken offline by this page");
  }

  online() {
    this.#offline = false;
    this.retryNow();
  }

  /**
   * Stops reading for `ms` milliseconds. Resolves when reading continues. worker_socket.js explains how.
   * @throws {TurnwireError} `unsupported`: there is no `Worker`; `connection_closed`
   */
  async pauseReading(ms) {
    if (!WorkerSocket.supported) {
      throw new TurnwireError({ code: "unsupported", message: "Pausing reads needs a browser with Worker support." });
    }
    if (!(this.#socket instanceof WorkerSocket)) {
      this.#usesHttp = false;
      this.#createSocket = (url, protocols) => new WorkerSocket(url, protocols);
      this.#reopen();
    }
    while (this.#state.state !== "live") {
      if (this.#state.state === "closed") throw connectionClosed(this.#state.reason);
      await new Promise((resolve) => this.#stateWaiters.push(resolve));
    }
    if (this.#usesHttp) throw new TurnwireError({ code: "unsupported", message: "Reading can't be paused over HTTP." });
    await this.#socket.pause(ms);
  }

  /** Closes the connection for good. */
  close() {
    this.#dropSocket(NORMAL_CLOSURE);
    this.#closeForGood(NORMAL_CLOSURE, "Closed by this page");
  }

  /** Whether the gateway can't be reached, because there is no network. */
  get #isCutOff() {
    return this.#network.lost && !this.#isLocal;
  }

  /** The network is lost. A gateway on this machine is asked whether it still answers; a socket to any other one is dropped. */
  #onNetworkLost() {
    if (this.#state.state === "closed" || this.#offline) return;
    if (!this.#isLocal) {
      this.#dropSocket();
      this.#onLost(0, "No network");
    } else if (this.#state.state === "live") {
      this.#setState({ ...this.#state, suspect: true });
      this.#watchdog.expectAnswer(SUSPECT_MS);
      this.#options.onWake();
    }
  }

  #onNetworkBack() {
    this.#probe?.hurry();
    if (this.#state.network === false) this.retryNow();
    this.#onWake();
  }

  #onWake = () => {
    if (globalThis.document?.visibilityState === "hidden") return;
    this.retryNow();
    // After sleep or a network change the socket may be dead, and timers that slept too would detect it late.
    if (this.#state.state === "live" || this.#state.state === "connecting") this.#watchdog.check();
    if (this.#state.state !== "live") return;
    this.#watchdog.expectAnswer();
    this.#options.onWake();
  };

  async #open() {
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#openingTimer);
    const attempt = ++this.#attempt;
    this.#backoff.onConnecting();
    this.#watchdog.start();
    this.#setState({ state: "connecting" });
    try {
      if (this.#usesHttp) await this.#openHttp(attempt);
      else await this.#openSocket(attempt);
    } catch (cause) {
      if (attempt === this.#attempt) this.#onOpenFailed(cause);
    }
  }

  async #openSocket(attempt) {
    const codec = this.#codec;
    const { url, token } = await this.#credentials();
    if (attempt !== this.#attempt) return;
    const socket = this.#createSocket(url, [codec.subprotocol], token);
    this.#usesHttp = false;
    socket.onopen = () => this.#onOpen(socket, codec, token);
    this.#setHandlers(socket, codec);
    if (this.#mayUseHttp) this.#openingTimer = setTimeout(() => socket.readyState === 0 && void this.#askWhileOpening(attempt), OPENING_MS);
  }

  async #openHttp(attempt) {
    const [{ HttpSocket, SocketProbe }, token] = await Promise.all([import("./http_socket.js"), this.#httpToken()]);
    if (attempt !== this.#attempt) return;
    if (this.#options.transport !== "http" && this.#createSocket) {
      this.#probe ??= new SocketProbe(() => this.#openBeside(), () => this.#options.isIdle(), (socket, message) => this.#moveTo(socket, message));
    }
    this.#usesHttp = true;
    this.#setHandlers(new HttpSocket(this.#options.url, token), codecs.json);
  }

  /** Opens a socket beside the one that is used. */
  async #openBeside() {
    const codec = this.#codec;
    const { url, token } = await this.#credentials();
    const socket = this.#createSocket(url, [codec.subprotocol], token);
    socket.binaryType = "arraybuffer";
    socket.onerror = () => {};
    socket.onopen = () => this.#onOpen(socket, codec, token);
    socket.codec = codec;
    return socket;
  }

  /** Goes back to WebSockets, with one that is ready. */
  #moveTo(socket, message) {
    this.#usesHttp = false;
    this.#dropSocket();
    this.#setState({ state: "waiting", delay_ms: 0, reason: "A WebSocket opens again" });
    if (this.#state.state === "closed") {
      socket.close(NORMAL_CLOSURE);
      return;
    }
    this.#watchdog.start();
    this.#setHandlers(socket, socket.codec);
    socket.onmessage(message);
  }

  /** Returns the address and the credential of a socket. */
  async #credentials() {
    const url = new URL(this.#options.url);
    const ticket = await this.#options.ticket?.();
    if (ticket) url.searchParams.set("ticket", ticket);
    this.#needsTicket = Boolean(ticket);
    return { url: url.href, token: await this.#options.token?.() };
  }

  /** Returns the credential for HTTP. @throws {TurnwireError} there is only a ticket, which opens a socket and nothing else */
  async #httpToken() {
    const { token, ticket } = this.#options;
    if (token || !(await ticket?.())) return token?.();
    throw new TurnwireError({ code: "unsupported", message: "A ticket opens only WebSockets. Pass `token` to use HTTP." });
  }

  #setHandlers(socket, codec) {
    this.#socket = socket;
    this.#socketCodec = codec;
    this.traffic.sockets++;
    socket.binaryType = "arraybuffer";
    socket.onmessage = (message) => this.#onMessage(message.data, codec);
    socket.onclose = (event) => this.#onLost(event.code, event.reason, event.error);
    // Node 20 may send no `close` after an error. The package `ws` throws an error that nobody takes.
    socket.onerror = () => setTimeout(() => socket === this.#socket && socket.readyState !== 1 && socket.onclose({ code: 1006, reason: "" }), ERROR_MS);
  }

  #onOpen(socket, codec, token) {
    this.#check.onOpen();
    if (token) this.#authenticate(socket, codec, token);
  }

  /** Sends the first frame, before `ready`. The close code reports a refusal. */
  #authenticate(socket, codec, token) {
    const data = codec.encode({ type: "auth", token });
    socket.send(data);
    this.#record("out", { type: "auth", token: "…" }, codec.bytes(data), performance.now());
  }

  /** Whether HTTP may take the place of WebSockets. */
  get #mayUseHttp() {
    return this.#options.transport === "auto" && !this.#usesHttp && (this.#options.token || !this.#needsTicket);
  }

  /** A socket takes long to open. If the gateway answers over HTTP meanwhile, something on the way keeps sockets from opening. */
  async #askWhileOpening(attempt) {
    const error = await this.#check.ask();
    if (attempt !== this.#attempt || this.#socket?.readyState !== 0) return;
    if (!error && this.#check.answered) this.#useHttp();
  }

  #useHttp() {
    this.#usesHttp = true;
    this.#dropSocket();
    void this.#open();
  }

  #onOpenFailed(cause) {
    if (cause?.retryable === false) {
      this.#dropSocket();
      this.#closeForGood(UNAUTHENTICATED, cause.message?.replace(/\.$/, "") || closeReason(UNAUTHENTICATED));
      return;
    }
    // The credential endpoint is usually as unreachable as the gateway, and comes back with it.
    console.warn("turnwire: failed to open a socket; retrying", cause);
    this.#onLost(0, "Couldn't open a socket");
  }

  #onMessage(data, codec) {
    const at = performance.now();
    this.#watchdog.reset(at);
    let frame;
    try {
      frame = codec.decode(data);
      if (typeof frame?.type !== "string") throw new TypeError("The frame has no type.");
    } catch (cause) {
      console.error("turnwire: failed to decode a frame", cause);
      this.#dropSocket();
      this.#onLost(0, "The gateway sent a frame that can't be decoded");
      return;
    }
    this.#record("in", frame, codec.bytes(data), at);
    if (this.#state.suspect) this.#setState({ state: "live", ready: this.#state.ready });
    if (frame.type === "ready" && (frame.protocol ?? PROTOCOL) !== PROTOCOL) {
      this.#dropSocket();
      this.#refuse(unknownProtocol(frame.protocol));
      return;
    }
    if (frame.type === "ready") this.#onReady(frame, at);
    else if (frame.type === "going_away") this.#backoff.setRequestedDelay(frame.reconnect_after_ms);
    else if (frame.type === "auth.expiring") this.#options.onExpiring(frame.expires_at);
    this.#options.onFrame(frame, at);
  }

  #onReady(frame, at) {
    this.#watchdog.setHeartbeat(frame.heartbeat_s, at);
    this.#backoff.onReady(at);
    this.#credentialRefused = false;
    this.#check.onReady();
    clearTimeout(this.#openingTimer);
    if (this.#usesHttp) this.#probe?.start();
    this.#network.lost &&= this.#isLocal; // a socket has opened, so there is a network
    this.#setState({ state: "live", ready: frame });
  }

  #record(direction, frame, bytes, at) {
    const totals = this.traffic[direction];
    totals.frames++;
    totals.bytes += bytes;
    if (!this.wire) return;
    const codec = (this.#socketCodec ?? this.#codec).name;
    callListener("wire", this.wire, { direction, frame, bytes, at, codec, socket: this.traffic.sockets });
  }

  /** Drops the socket without waiting for the closing handshake, which a dead peer never answers. */
  #dropSocket(code = SOCKET_DROPPED) {
    const socket = this.#socket;
    this.#socket = null;
    this.#attempt++;
    this.#probe?.stop();
    clearTimeout(this.#openingTimer);
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(code);
  }

  /** Reconnects at once. */
  #reopen() {
    if (this.#state.state === "closed" || this.#offline) return;
    this.#dropSocket();
    this.#onLost(SOCKET_DROPPED, "The connection is opened again");
  }

  #onLost(code, detail, error) {
    this.#watchdog.stop();
    this.#probe?.stop();
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#openingTimer);
    if (error) {
      this.#refuse(error);
      return;
    }
    const [wasReady, hadSocket] = [this.#state.state === "live", this.#socket !== null];
    this.#socket = null;
    const reason = closeReason(code) ?? (detail || this.#check.reason || "The connection was lost");
    if (isFinal(code) && !this.#canRetryCredential(code)) {
      this.#closeForGood(code, reason);
      return;
    }
    this.#backoff.onDisconnected(performance.now());
    if (this.#isCutOff && !this.#offline) {
      this.#retryTimer = setTimeout(() => void this.#open(), TRY_EVERY_MS);
      this.#setState({ state: "waiting", delay_ms: null, reason: "No network", network: false });
      return;
    }
    const delay_ms = this.#offline ? null : this.#backoff.delay_ms(code);
    this.#retryAt = performance.now() + delay_ms;
    if (delay_ms !== null) this.#retryTimer = setTimeout(() => void this.#open(), delay_ms);
    this.#setState({ state: "waiting", delay_ms, reason });
    if (delay_ms === null || this.#state.state !== "waiting") return;
    if (this.#check.onLost(wasReady, hadSocket && !this.#usesHttp)) void this.#askWhy();
  }

  /** Asks the gateway why no socket opens. */
  async #askWhy() {
    const error = await this.#check.ask();
    const { state } = this.#state;
    if (state === "closed" || state === "live" || this.#offline) return;
    if (error) {
      console.error(`turnwire: ${error.message}`);
      this.#dropSocket();
      this.#refuse(error);
    } else if (this.#check.answered && this.#check.hadSocket && this.#mayUseHttp && state === "waiting") {
      this.#useHttp();
    } else if (this.#check.answered && this.#check.hadSocket && this.#options.token && !isPage() && (await this.#isTokenRefused())) {
      if (this.#state.state === "closed" || this.#state.state === "live") return;
      this.#dropSocket();
      this.#closeForGood(UNAUTHENTICATED, closeReason(UNAUTHENTICATED));
    } else if (state === "waiting" && this.#state.network !== false && this.#state.delay_ms !== null) {
      const delay_ms = Math.max(0, this.#retryAt - performance.now());
      this.#setState({ state, delay_ms, reason: this.#check.reason ?? this.#state.reason });
    }
  }

  /** Returns whether a fresh credential is refused. A socket with a header doesn't tell: it just doesn't open. */
  async #isTokenRefused() {
    const { HttpRequests } = await import("./http_requests.js");
    const token = await Promise.resolve(this.#options.token()).catch(() => null);
    const error = token && (await new HttpRequests(this.#options.url, token).send({ type: "models.list" }).catch((error) => error));
    return error?.code === UNAUTHENTICATED;
  }

  /** Returns whether to retry with a fresh credential. After one retry, no other follows until a socket is ready. */
  #canRetryCredential(code) {
    const canRetry = code === UNAUTHENTICATED && !this.#credentialRefused && (this.#options.token ?? this.#options.ticket);
    this.#credentialRefused = true;
    return Boolean(canRetry);
  }

  /** Closes the connection with the error of a gateway that refuses every connection, or that isn't one. */
  #refuse(error) {
    this.#closeForGood(0, error.message.replace(/\.$/, ""), error);
  }

  #closeForGood(code, reason, error) {
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#openingTimer);
    this.#probe?.stop();
    this.#watchdog.stop();
    this.#network.stop();
    globalThis.document?.removeEventListener("visibilitychange", this.#onWake);
    this.#setState({ state: "closed", code, reason, ...(error && { error }) });
  }

  #setState(state) {
    this.#state = state;
    this.#options.onState(state);
    for (const resolve of this.#stateWaiters.splice(0)) resolve();
  }
}

function encoded(codec, frame) {
  try {
    return codec.encode(frame);
  } catch (cause) {
    throw notEncodable(cause);
  }
}
