/** Requests and their answers: ids, pieces, what waits while the socket is away and what is sent again after it. */

import { closed, lost, TurnwireError } from "./errors.js";

/** Requests that mean the same when they are sent twice; they survive a lost socket. */
const REPEATABLE = new Set(["turn.start", "turn.cancel", "turn.get", "models.list", "usage.get",
  "conversation.list", "conversation.get", "conversation.messages", "feedback.put"]);

/** The requests of one connection that have no answer yet. */
export class Requests {
  #send;
  #nextId = 1;
  #pending = new Map();

  /** @param {(frame: object) => boolean} send puts a frame on the socket; false where there is none, may throw `too_large` */
  constructor(send) {
    this.#send = send;
  }

  /** Sends a request, now or with the next socket; resolves with its result or rejects with a TurnwireError. */
  ask(type, fields) {
    return new Promise((resolve, reject) => {
      const id = String(this.#nextId++);
      const entry = { frame: { type, id, ...fields }, resolve, reject, sent: false, pieces: [] };
      this.#pending.set(id, entry);
      this.#put(entry);
    });
  }

  /** Takes a frame if it belongs to a request. */
  take(frame) {
    const entry = this.#pending.get(frame.id);
    if (!entry) return;
    if (frame.type === "result.piece") {
      entry.pieces.push(frame.text);
    } else if (frame.type === "result") {
      this.#drop(entry).resolve(frame.pieces ? JSON.parse(entry.pieces.join("")) : frame.result);
    } else if (frame.error.code === "shutting_down" && entry.frame.type === "turn.start") {
      entry.sent = false; // a refused start leaves nothing behind: it is for the next socket
    } else {
      this.#drop(entry).reject(new TurnwireError(frame.error));
    }
  }

  /** A socket is ready: sends what waits, in its order. */
  resume() {
    for (const entry of this.#pending.values()) this.#put(entry);
  }

  /** The socket went away: what can't be repeated is lost, the rest waits. */
  interrupt() {
    for (const entry of this.#pending.values()) {
      entry.pieces = [];
      if (entry.sent && !REPEATABLE.has(entry.frame.type)) this.#drop(entry).reject(lost());
    }
  }

  /** There will be no other socket. */
  close(reason) {
    for (const entry of this.#pending.values()) this.#drop(entry).reject(closed(reason));
  }

  /** Whether this turn's start has no answer yet. */
  isStarting(turn) {
    return this.#startOf(turn) !== undefined;
  }

  /** Settles a start by what its events have said already. */
  settleStart(turn, result) {
    const entry = this.#startOf(turn);
    if (entry) this.#drop(entry).resolve(result);
  }

  /** Takes back a start; false if the gateway may know it. */
  withdrawStart(turn) {
    const entry = this.#startOf(turn);
    if (!entry || entry.sent) return false;
    this.#drop(entry);
    return true;
  }

  #startOf(turn) {
    for (const entry of this.#pending.values()) {
      if (entry.frame.type === "turn.start" && entry.frame.turn === turn) return entry;
    }
    return undefined;
  }

  #drop(entry) {
    this.#pending.delete(entry.frame.id);
    return entry;
  }

  #put(entry) {
    try {
      // `sent` stays true across reconnects: the gateway may know this request even if it never answered.
      if (this.#send(entry.frame)) entry.sent = true;
    } catch (error) {
      this.#drop(entry).reject(error);
    }
  }
}
