/**
 * Turnwire's client for browsers: one WebSocket, many turns. No dependency, no build step.
 *
 *     import { connect } from "./turnwire.js";
 *
 *     const connection = connect({ url: "wss://example.org/ws" });
 *     const turn = connection.start({ input: "Why is the sky blue?" });
 *     for await (const event of turn) {
 *       if (event.type === "turn.delta" && event.text) console.log(event.text);
 *     }
 *     const message = await turn.done;          // {text, parts, usage, cost, timing, ended, …}
 *
 *     turn.cancel();                            // or: start({input, signal: AbortSignal.timeout(5000)})
 *     await connection.request("models.list");  // every other request of the protocol
 *
 * A lost socket is opened again with full jitter, and every running turn goes on from its position: nothing is lost
 * or shown twice. A frame that breaks this (law 1) fails its turn, is logged, and is sent as a `violation` event.
 */

import { Link } from "./link.js";
import { closed, Requests } from "./requests.js";
import { LawViolation, Turn, TurnwireError } from "./turn.js";

export { LawViolation, Turn, TurnwireError };

const PING_EVERY_MS = 10_000;
const ATTACH_RETRY_MS = 1_000;

/**
 * Opens a connection and keeps it open.
 * @param {object} options
 * @param {string} options.url the gateway's socket, `ws:` or `wss:`
 * @param {() => string | Promise<string>} [options.token] gives a credential, asked again at every opening and renewal
 * @returns {Connection}
 */
export function connect(options) {
  return new Connection(options);
}

/** The gateway's socket beside this page: same origin, path `ws` relative to the page, so that a path prefix works. */
export function socketUrl(page = location.href) {
  const url = new URL("ws", page);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

/**
 * Events (CustomEvents; `detail` is): `state` (LinkState in link.js), `roundtrip` (ms), `violation` (a LawViolation),
 * `event` (a frame that belongs to no turn of this connection: `durability`, `going_away`, …).
 */
export class Connection extends EventTarget {
  #link;
  #requests = new Requests((text) => this.state.state === "live" && this.#link.send(text));
  #turns = new Map();
  #endedTurns = new Set();
  #pingTimer = 0;

  constructor({ url, token }) {
    super();
    this.#link = new Link({ url, token, onFrame: (frame) => this.#take(frame), onState: (state) => this.#moved(state) });
  }

  get state() {
    return this.#link?.state ?? { state: "connecting" };
  }

  /** The turns that have not ended, oldest first. */
  get running() {
    return [...this.#turns.values()];
  }

  /** Sends a request and gives its result. Waits while the socket is away; rejects with a TurnwireError. */
  request(type, fields = {}) {
    if (this.state.state === "closed") return Promise.reject(closed(this.state.reason));
    return this.#requests.ask(type, fields);
  }

  /**
   * Starts a turn. Fields as `turn.start` in the protocol; `turn` is made here if it is not given.
   * @param {object} fields
   * @param {AbortSignal} [fields.signal] stops the turn when it aborts
   * @returns {Turn}
   */
  start({ signal, ...fields }) {
    const id = fields.turn ?? randomId();
    const turn = new Turn(id, (reason) => this.cancel([turn], reason));
    if (signal?.aborted) {
      turn.withdraw();
      return turn;
    }
    this.#turns.set(id, turn);
    const abort = () => void turn.cancel().catch(() => {});
    signal?.addEventListener("abort", abort, { once: true });
    const forget = () => signal?.removeEventListener("abort", abort);
    turn.done.then(forget, forget);
    this.request("turn.start", { ...fields, turn: id }).then(
      (result) => turn.answer(result),
      (error) => this.#fail(turn, error),
    );
    return turn;
  }

  /** Follows a turn that was started elsewhere, or before a reload, from its first event on. */
  follow(id) {
    const turn = new Turn(id, (reason) => this.cancel([turn], reason));
    this.#turns.set(id, turn);
    if (this.state.state === "live") this.#attach([turn]);
    return turn;
  }

  /** Stops several turns with one request. */
  async cancel(turns, reason) {
    const ids = turns.filter((turn) => !turn.ended && !this.#withdrawn(turn)).map((turn) => turn.id);
    if (ids.length === 0) return {};
    const answer = await this.request("turn.cancel", { turns: ids, ...(reason && { reason }) });
    for (const id of ids) {
      // A start that is still under way gets its own answer; anything else that is not found is no more.
      if (answer.turns[id] === "not_found" && !this.#requests.isStarting(id)) this.#fail(this.#turns.get(id), unknownTurn());
    }
    return answer.turns;
  }

  /** Tries to reconnect at once. */
  retryNow() {
    this.#link.retryNow();
  }

  /** Leaves for good; turns on the gateway go on without this page. */
  close() {
    this.#link.close();
  }

  /** Takes back a start that was never sent. */
  #withdrawn(turn) {
    if (!this.#requests.withdrawStart(turn.id)) return false;
    this.#turns.delete(turn.id);
    turn.withdraw();
    return true;
  }

  #moved(state) {
    clearInterval(this.#pingTimer);
    if (state.state === "live") this.#resume(state.ready);
    else if (state.state === "waiting") this.#interrupted();
    else if (state.state === "closed") this.#over(state.reason);
    this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }

  #resume(ready) {
    this.#requests.resume(ready.limits.frame_bytes);
    this.#attach(this.running.filter((turn) => !this.#requests.isStarting(turn.id)));
    this.#ping();
    this.#pingTimer = setInterval(() => this.#ping(), PING_EVERY_MS);
  }

  #interrupted() {
    for (const turn of this.running.filter(({ position }) => position.seq > 0)) {
      // Its events came: attaching goes on from the position, a second start would begin at the first event.
      const { id, conversation, status, position } = turn;
      this.#requests.settleStart(id, { turn: id, conversation, status, epoch: position.epoch });
    }
    this.#requests.interrupt();
  }

  #over(reason) {
    this.#requests.close(reason);
    for (const turn of this.running) this.#fail(turn, closed(reason));
  }

  /** Goes on with turns from their positions on the present socket. */
  #attach(turns) {
    if (turns.length === 0) return;
    const positions = Object.fromEntries(turns.map((turn) => [turn.id, turn.position]));
    this.request("turn.attach", { positions }).then(
      (result) => {
        for (const turn of turns) {
          const answer = result.turns[turn.id];
          if (answer?.error) this.#notAttached([turn], answer.error);
          else if (answer) turn.answer(answer);
        }
      },
      (error) => this.#notAttached(turns, error),
    );
  }

  #notAttached(turns, error) {
    if (error.code === "connection_lost") return; // the next socket attaches anew
    const left = turns.filter((turn) => !turn.ended);
    if (!error.retryable) for (const turn of left) this.#fail(turn, error);
    else setTimeout(() => this.state.state === "live" && this.#attach(left), error.retry_after_ms ?? ATTACH_RETRY_MS);
  }

  async #ping() {
    const sentAt = performance.now();
    try {
      await this.request("ping", {});
      this.dispatchEvent(new CustomEvent("roundtrip", { detail: performance.now() - sentAt }));
    } catch {
      // The socket went away meanwhile; its state says so.
    }
  }

  #take(frame) {
    if (frame.type === "result" || frame.type === "result.piece" || (frame.type === "error" && frame.id)) this.#requests.take(frame);
    else if (frame.turn !== undefined) this.#turnEvent(frame);
    else this.dispatchEvent(new CustomEvent("event", { detail: frame }));
  }

  #turnEvent(frame) {
    const turn = this.#turns.get(frame.turn);
    if (frame.type === "turn.detached") {
      if (turn) this.#notAttached([turn], { retryable: true });
    } else if (turn) {
      this.#step(turn, frame);
    } else if (this.#endedTurns.has(frame.turn)) {
      this.#violated(new LawViolation(`Turn ${frame.turn}: ${frame.type} after its ending (law 2).`));
    } else {
      this.dispatchEvent(new CustomEvent("event", { detail: frame }));
    }
  }

  #step(turn, frame) {
    try {
      turn.accept(frame);
    } catch (error) {
      if (!(error instanceof LawViolation)) throw error;
      this.#violated(error);
      this.#fail(turn, error);
      this.#endedTurns.delete(turn.id); // what still comes of it is no second violation
      return;
    }
    if (turn.ended) this.#ended(turn);
  }

  #violated(error) {
    console.error(error);
    this.dispatchEvent(new CustomEvent("violation", { detail: error }));
  }

  #fail(turn, error) {
    if (!turn) return;
    turn.fail(error);
    this.#ended(turn);
  }

  #ended(turn) {
    this.#turns.delete(turn.id);
    this.#endedTurns.add(turn.id);
  }
}

function unknownTurn() {
  return new TurnwireError({ code: "not_found", message: "The gateway doesn't know this turn any more." });
}

/** 128 random bits, without `crypto.randomUUID`, which plain http lacks. */
function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `t_${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
