/**
 * One turn as a client holds it: its position, the check of law 1 (contiguous) and law 2 (one ending), the message
 * so far, and the two ways to follow it: an async iterator of its events and a promise of its message.
 */

import { LawViolation, TurnwireError } from "./errors.js";
import { EventQueue } from "./event_queue.js";
import { fold, textOf } from "./message.js";

const ENDINGS = new Set(["turn.completed", "turn.cancelled", "turn.failed"]);

/**
 * A started turn. Iterate it for its events (one consumer; the last event is its ending), or await it for its message.
 * It is a promise: to hand a turn on, pass it as an argument or in an object; returned from an async function it is
 * awaited.
 */
export class Turn {
  id;
  conversation = null;
  model = null;
  input = null;
  status = "starting";
  parts = [];
  position = { epoch: 0, seq: 0 };
  ending = null;
  accepted;
  done;
  askedAt = performance.now();
  firstAt = null;
  lastAt = null;
  #cancel;
  #settleAccepted;
  #settleDone;
  #events = new EventQueue();

  /**
   * @param {string} id the turn's id, chosen by this client
   * @param {(turn: Turn, reason?: string) => Promise<unknown>} cancel how its connection stops it
   */
  constructor(id, cancel) {
    this.id = id;
    this.#cancel = cancel;
    this.accepted = new Promise((resolve, reject) => (this.#settleAccepted = { resolve, reject }));
    this.done = new Promise((resolve, reject) => (this.#settleDone = { resolve, reject }));
    // Whoever only iterates learns of a failure from the last event; that is not an unhandled rejection.
    this.accepted.catch(() => {});
    this.done.catch(() => {});
  }

  get ended() {
    return this.ending !== null;
  }

  get text() {
    return textOf(this.parts);
  }

  get inputText() {
    return textOf(this.input?.parts ?? []);
  }

  cancel(reason) {
    return this.#cancel(this, reason);
  }

  then(fulfilled, rejected) {
    return this.done.then(fulfilled, rejected);
  }

  catch(rejected) {
    return this.done.catch(rejected);
  }

  finally(settled) {
    return this.done.finally(settled);
  }

  [Symbol.asyncIterator]() {
    return this.#events[Symbol.asyncIterator]();
  }

  /** Takes the gateway's answer to `turn.start` or `turn.attach`. */
  answer(result) {
    this.conversation ??= result.conversation;
    if (this.status === "starting") this.status = result.status === "queued" ? "queued" : "running";
    this.#settleAccepted.resolve(result);
  }

  /**
   * Takes the next event of this turn.
   * @param {object} event
   * @param {number} at when it came, by `performance.now()`
   * @throws {LawViolation} where the event does not continue the position, or follows the ending
   */
  accept(event, at = performance.now()) {
    this.#check(event);
    fold(this, event);
    if (event.seq !== undefined) this.position = { epoch: event.epoch ?? this.position.epoch, seq: event.seq };
    if (event.type === "turn.delta") this.#heard(at);
    else if (event.type === "turn.started") this.#settleAccepted.resolve(acceptanceOf(event));
    this.#events.push(event, at);
    if (ENDINGS.has(event.type)) this.#end(event);
  }

  /** Ends the turn on this side only: a refused start, a position that is gone, a connection closed for good. */
  fail(error) {
    const typed = error instanceof Error ? error : new TurnwireError(error);
    this.#endHere({ type: "turn.failed", turn: this.id, error: typed, local: true }, typed);
  }

  /** Ends a turn that never left this page. */
  withdraw() {
    const error = new TurnwireError({ code: "withdrawn", message: "Stopped before it was sent." });
    this.#endHere({ type: "turn.cancelled", turn: this.id, by: "client", local: true }, error);
  }

  #endHere(event, error) {
    if (this.ended) return;
    this.#settleAccepted.reject(error);
    fold(this, event);
    this.#events.push(event, performance.now());
    this.#end(event);
  }

  #check(event) {
    if (this.ended) throw new LawViolation(`Turn ${this.id}: ${event.type} after its ending (law 2).`);
    // A reset sets the position itself; an unnumbered event has none.
    if (event.type === "turn.reset" || event.seq === undefined) return;
    const after = event.after ?? event.seq - 1;
    if (after === this.position.seq && event.seq > after) return;
    throw new LawViolation(
      `Turn ${this.id}: ${event.type} continues ${after}, but this client holds ${this.position.seq} (law 1).`,
    );
  }

  #heard(at) {
    this.firstAt ??= at;
    this.lastAt = at;
  }

  #end(event) {
    this.ending = event;
    this.#events.close();
    this.#settleAccepted.resolve({ turn: this.id, conversation: this.conversation, status: "attached", epoch: this.position.epoch });
    if (event.type === "turn.failed") {
      const error = event.error instanceof Error ? event.error : new TurnwireError(event.error);
      this.#settleDone.reject(Object.assign(error, { final: this.#final(event) }));
    } else {
      this.#settleDone.resolve(this.#final(event));
    }
  }

  #final(event) {
    const { usage = null, cost = null, timing = null, finish_reason = null, message = null } = event;
    const known = { id: message, turn: this.id, conversation: this.conversation, model: this.model };
    return { ...known, role: "assistant", parts: this.parts, text: this.text, ended: this.status, finish_reason, usage, cost, timing };
  }
}

/** An acceptance as the answer to a start says it. */
function acceptanceOf({ turn, conversation, status, epoch }) {
  return { turn, conversation, status, epoch };
}
