/** Matches answers to requests. Requests wait while there is no socket. After a reconnect, some are sent again. */

import { connectionLost, TurnwireError } from "./errors.js";

/** Requests that can safely be sent twice. If the socket is lost, they are sent again on the next one. */
const IDEMPOTENT = new Set(["turn.start", "turn.cancel", "turn.get", "turn.estimate", "models.list", "usage.get",
  "conversation.list", "conversation.get", "conversation.messages", "feedback.put"]);

/** Returns whether a request can safely be sent twice. A `conversation.create` can if it names the conversation's id. */
function isIdempotent({ type, conversation }) {
  return IDEMPOTENT.has(type) || (type === "conversation.create" && conversation !== undefined);
}

/** The unanswered requests of one connection. */
export class Requests {
  #sendFrame;
  #nextId = 1;
  #pending = new Map();

  /**
   * @param {(frame: object) => boolean} sendFrame sends a frame; returns false if there is no socket; may throw
   *   `too_large` or `invalid_request`
   */
  constructor(sendFrame) {
    this.#sendFrame = sendFrame;
  }

  /**
   * Sends a request now, or when the next socket is ready. Resolves with its result or rejects with a TurnwireError.
   */
  send(type, fields) {
    return new Promise((resolve, reject) => {
      const id = String(this.#nextId++);
      const entry = { frame: { type, id, ...fields }, resolve, reject, sent: false, pieces: [] };
      this.#pending.set(id, entry);
      this.#trySend(entry);
    });
  }

  /** Whether a request other than a ping waits for its answer. */
  get isBusy() {
    return [...this.#pending.values()].some(({ frame }) => frame.type !== "ping");
  }

  /** Handles an answer. Ignores a frame that answers no pending request. */
  receive(frame) {
    const entry = this.#pending.get(frame.id);
    if (!entry) return;
    if (frame.type === "result.piece") {
      entry.pieces.push(frame.text);
    } else if (frame.type === "result") {
      this.#remove(entry).resolve(frame.pieces ? JSON.parse(entry.pieces.join("")) : frame.result);
    } else if (frame.error.code === "shutting_down" && entry.frame.type === "turn.start") {
      entry.sent = false; // the gateway stored nothing, so the next socket can send it again
    } else {
      this.#remove(entry).reject(new TurnwireError(frame.error));
    }
  }

  /** Sends all unanswered requests, in order. Call it when a socket is ready. */
  resume() {
    for (const entry of this.#pending.values()) this.#trySend(entry);
  }

  /** Rejects sent requests that can't be repeated. Call it when the socket is lost. */
  interrupt() {
    for (const entry of this.#pending.values()) {
      entry.pieces = [];
      if (entry.sent && !isIdempotent(entry.frame)) this.#remove(entry).reject(connectionLost());
    }
  }

  /** Rejects all requests. Call it when the connection is closed for good. */
  close(error) {
    for (const entry of this.#pending.values()) this.#remove(entry).reject(error);
  }

  /** Returns whether a turn's `turn.start` is still unanswered. @param {string} turn id */
  isStarting(turn) {
    return this.#findStart(turn) !== undefined;
  }

  /**
   * Resolves an unanswered `turn.start`, if there is one. Call it when events of the turn have already arrived.
   * @param {string} turn id
   * @param {object} result
   */
  settleStart(turn, result) {
    const entry = this.#findStart(turn);
    if (entry) this.#remove(entry).resolve(result);
  }

  /**
   * Withdraws a `turn.start`. Returns false if there is none or the gateway may have accepted it.
   * @param {string} turn id
   */
  withdrawStart(turn) {
    const entry = this.#findStart(turn);
    if (!entry || entry.sent) return false;
    this.#remove(entry);
    return true;
  }

  #findStart(turn) {
    for (const entry of this.#pending.values()) {
      if (entry.frame.type === "turn.start" && entry.frame.turn === turn) return entry;
    }
    return undefined;
  }

  #remove(entry) {
    this.#pending.delete(entry.frame.id);
    return entry;
  }

  #trySend(entry) {
    try {
      // `sent` stays true across reconnects: the gateway may have handled the request without answering.
      if (this.#sendFrame(entry.frame)) entry.sent = true;
    } catch (error) {
      this.#remove(entry).reject(error);
    }
  }
}
