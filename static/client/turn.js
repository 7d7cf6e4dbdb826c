/**
 * One turn in the client: its position, its message so far, and two ways to follow it: an async iterator of events and
 * a promise of the message. It enforces law 1 (events are contiguous) and law 2 (one ending).
 */

import { callListener } from "./emitter.js";
import { LawViolation, TurnwireError } from "./errors.js";
import { EventQueue } from "./event_queue.js";
import { applyEvent, textOf } from "./message.js";

const ENDINGS = new Set(["turn.completed", "turn.cancelled", "turn.failed"]);

/**
 * A started turn. Iterate it to get its events (one consumer; the last event is the ending), or await it to get its
 * message.
 *
 * It is also a promise, so an async function that returns a Turn gives its caller the message. To hand over the Turn
 * itself, return it inside an object.
 */
export class Turn {
  id;
  conversation = null;
  model = null;
  input = null;
  messageId = null;
  parentId = null;
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
  #listeners = new Set();

  /**
   * @param {string} id of the turn
   * @param {(turn: Turn, reason?: string) => Promise<unknown>} cancel cancels it through its connection
   */
  constructor(id, cancel) {
    this.id = id;
    this.#cancel = cancel;
    this.accepted = new Promise((resolve, reject) => (this.#settleAccepted = { resolve, reject }));
    this.done = new Promise((resolve, reject) => (this.#settleDone = { resolve, reject }));
    // A consumer that only iterates learns of a failure from the last event. The failure must not also cause an
    // unhandled rejection.
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

  subscribe(listener) {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Applies the gateway's answer for this turn to `turn.start`, `turn.attach` or `conversation.attach`. */
  accept(result) {
    this.conversation ??= result.conversation;
    if (this.status === "starting") this.status = result.status === "queued" ? "queued" : "running";
    this.#settleAccepted.resolve(result);
    this.#notify();
  }

  /**
   * Applies the next event of this turn.
   * @param {object} event
   * @param {number} at its arrival, in ms from `performance.now()`
   * @throws {LawViolation} the event does not continue the position, follows the ending, or names a part that was never
   *   opened
   */
  receive(event, at = performance.now()) {
    this.#checkOrder(event);
    applyEvent(this, event);
    if (event.seq !== undefined) this.position = { epoch: event.epoch ?? this.position.epoch, seq: event.seq };
    if (event.type === "turn.delta") this.#recordArrival(at);
    else if (event.type === "turn.started") this.#settleAccepted.resolve(acceptanceFrom(event));
    this.#events.push(event, at);
    if (ENDINGS.has(event.type)) this.#end(event);
    this.#notify();
  }

  /** Ends the turn on this side only, for example because its start was refused or its events are gone. */
  fail(error) {
    const typedError = error instanceof Error ? error : new TurnwireError(error);
    this.#endLocally({ type: "turn.failed", turn: this.id, error: typedError, local: true }, typedError);
  }

  /** Ends a turn that the gateway doesn't know: its start was withdrawn or never sent. @param {string} [reason] */
  withdraw(reason) {
    const error = new TurnwireError({ code: "withdrawn", message: "Stopped before it was sent." });
    this.#endLocally({ type: "turn.cancelled", turn: this.id, by: "client", reason, local: true }, error);
  }

  #endLocally(event, error) {
    if (this.ended) return;
    this.#settleAccepted.reject(error);
    applyEvent(this, event);
    this.#events.push(event, performance.now());
    this.#end(event);
    this.#notify();
  }

  #notify() {
    for (const listener of this.#listeners) callListener("turn.subscribe", listener, this);
  }

  #checkOrder(event) {
    if (this.ended) throw new LawViolation(`Turn ${this.id}: ${event.type} after its ending (law 2).`);
    // `turn.reset` sets the position itself. An event without `seq` has no position to check.
    if (event.type === "turn.reset" || event.seq === undefined) return;
    const after = event.after ?? event.seq - 1;
    if (after === this.position.seq && event.seq > after) return;
    throw new LawViolation(
      `Turn ${this.id}: ${event.type} continues ${after}, but this client is at ${this.position.seq} (law 1).`,
    );
  }

  #recordArrival(at) {
    this.firstAt ??= at;
    this.lastAt = at;
  }

  #end(event) {
    this.ending = event;
    this.#events.close();
    this.#settleAccepted.resolve({ turn: this.id, conversation: this.conversation, status: "attached", epoch: this.position.epoch });
    if (event.type === "turn.failed") {
      const error = event.error instanceof Error ? event.error : new TurnwireError(event.error);
      this.#settleDone.reject(Object.assign(error, { final: this.#finalMessage(event) }));
    } else {
      this.#settleDone.resolve(this.#finalMessage(event));
    }
  }

  #finalMessage(event) {
    const { usage = null, cost = null, timing = null, finish_reason = null, message = null } = event;
    const ids = { id: message, turn: this.id, conversation: this.conversation, model: this.model };
    return { ...ids, role: "assistant", parts: this.parts, text: this.text, ended: this.status, finish_reason, usage, cost, timing };
  }
}

/** Builds the result of `turn.start` from `turn.started`. */
function acceptanceFrom({ turn, conversation, status, epoch }) {
  return { turn, conversation, status, epoch };
}
