/** The turns that a connection follows: each gets its events, until its ending or a broken law. */

import { LawViolation } from "./errors.js";
import { Turn } from "./turn.js";

const PAST_TURNS_MAX = 2_000;

export class FollowedTurns {
  /** Those that have not ended, by their ids, oldest first. */
  #turns = new Map();
  /** How those that are over ended here: `ended`, `failed` or `withdrawn`. */
  #past = new Map();
  #live;
  #attachments;
  #connection;

  /**
   * @param {import("./running_turn_ids.js").LiveTurns} live keeps their ids over a reload
   * @param {import("./attachments.js").Attachments} attachments
   * @param {object} connection what they need of it: `cancel` one, `detach` one, the `conversation` with an id, `tell` an event
   */
  constructor(live, attachments, connection) {
    this.#live = live;
    this.#attachments = attachments;
    this.#connection = connection;
  }

  get running() {
    return [...this.#turns.values()];
  }

  get(id) {
    return this.#turns.get(id);
  }

  /** A new turn, not followed yet. */
  make(id) {
    return new Turn(id, this.#connection.cancel);
  }

  /** From now on its events are for it, also after a reload. */
  keep(turn) {
    this.#turns.set(turn.id, turn);
    this.#past.delete(turn.id);
    this.#live.add(turn.id);
  }

  /** Those of before a reload. */
  recall() {
    return this.#live.recall();
  }

  /** Takes back a turn whose start was never sent. */
  withdraw(turn) {
    turn.withdraw();
    this.#forget(turn, "withdrawn");
  }

  /** Ends a turn on this side. `keep`: it may still run; a reload may follow it. */
  fail(turn, error, { keep = false } = {}) {
    if (!turn || turn.ended) return;
    turn.fail(error);
    this.#forget(turn, "failed", keep);
  }

  /** Takes an event that names a turn. */
  take(frame, at) {
    const turn = this.#turns.get(frame.turn);
    const past = this.#past.get(frame.turn);
    if (frame.type === "turn.detached") {
      if (turn) this.#reattach(turn);
    } else if (turn) {
      this.#step(turn, frame, at);
    } else if (past === "ended") {
      this.#violated(new LawViolation(`Turn ${frame.turn}: ${frame.type} after its ending (law 2).`));
    } else if (past === undefined && frame.type === "turn.started" && this.#connection.conversation(frame.conversation)?.attached) {
      this.#startedElsewhere(frame, at);
    } else if (past !== "failed") {
      this.#connection.tell("event", frame);
    }
  }

  /** It goes on from its position, or the answer says why not. */
  #reattach(turn) {
    this.#attachments.detached(turn);
    this.#attachments.attach([turn]);
  }

  #startedElsewhere(frame, at) {
    const turn = this.make(frame.turn);
    this.#turns.set(turn.id, turn);
    this.#step(turn, frame, at);
    if (!turn.ended) {
      this.#connection.conversation(turn.conversation).takeTurn(turn);
      this.#connection.tell("turn", turn);
    }
  }

  #step(turn, frame, at) {
    try {
      turn.accept(frame, at);
    } catch (error) {
      if (!(error instanceof LawViolation)) throw error;
      this.#violated(error);
      this.fail(turn, error);
      this.#connection.detach(turn); // no more of what can't be used
      return;
    }
    this.#attachments.attached(turn);
    if (turn.ended) this.#forget(turn, "ended");
  }

  #violated(error) {
    console.error(error);
    this.#connection.tell("violation", error);
  }

  #forget(turn, how, keep = false) {
    this.#turns.delete(turn.id);
    this.#attachments.detached(turn);
    if (!keep) this.#live.delete(turn.id);
    this.#past.set(turn.id, how);
    if (this.#past.size > PAST_TURNS_MAX) this.#past.delete(this.#past.keys().next().value);
  }
}
