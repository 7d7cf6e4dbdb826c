/** Routes events to the turns of a connection until each turn ends. Reports violations of laws 1 and 2. */

import { LawViolation } from "./errors.js";
import { Turn } from "./turn.js";

const OUTCOMES_MAX = 2_000;

export class FollowedTurns {
  /** Turns that have not ended, by id, oldest first. */
  #turns = new Map();
  /** Outcomes of the latest past turns, by id: `ended` (by an event), `failed` (on this side only) or `withdrawn`. */
  #outcomes = new Map();
  #storedIds;
  #attachments;
  #connection;

  /**
   * @param {import("./running_turn_ids.js").RunningTurnIds} storedIds keeps the ids across a reload
   * @param {import("./attachments.js").Attachments} attachments
   * @param {object} connection callbacks: `cancel(turn, reason)`, `detach(turn)`, `conversation(id)`, `emit(type, detail)`
   */
  constructor(storedIds, attachments, connection) {
    this.#storedIds = storedIds;
    this.#attachments = attachments;
    this.#connection = connection;
  }

  get running() {
    return [...this.#turns.values()];
  }

  get(id) {
    return this.#turns.get(id);
  }

  /** Creates a turn without following it. */
  create(id) {
    return new Turn(id, this.#connection.cancel);
  }

  /** Follows a turn: routes its events to it, and stores its id for `recall`. */
  add(turn) {
    this.#turns.set(turn.id, turn);
    this.#outcomes.delete(turn.id);
    this.#storedIds.add(turn.id);
  }

  /** Returns the ids of the turns that were running before a reload. */
  recall() {
    return this.#storedIds.recall();
  }

  /** Ends a turn whose start was withdrawn. */
  withdraw(turn) {
    turn.withdraw();
    this.#remove(turn, "withdrawn");
  }

  /** Ends a turn on this side only. `resumable`: its id stays stored, so that `recall` can follow it. */
  fail(turn, error, { resumable = false } = {}) {
    if (!turn || turn.ended) return;
    turn.fail(error);
    this.#remove(turn, "failed", resumable);
  }

  /** Handles an event that names a turn. @param {number} at its arrival, in ms from `performance.now()` */
  receive(frame, at) {
    const turn = this.#turns.get(frame.turn);
    const outcome = this.#outcomes.get(frame.turn);
    if (frame.type === "turn.detached") {
      if (turn) this.#reattach(turn);
    } else if (turn) {
      this.#apply(turn, frame, at);
    } else if (outcome === "ended") {
      this.#reportViolation(new LawViolation(`Turn ${frame.turn}: ${frame.type} after its ending (law 2).`));
    } else if (outcome === undefined && frame.type === "turn.started" && this.#connection.conversation(frame.conversation)?.attached) {
      this.#followRemote(frame, at);
    } else if (outcome !== "failed") {
      this.#connection.emit("event", frame);
    }
  }

  /** Attaches again from the turn's position. If the gateway refuses and the error isn't retryable, the turn fails. */
  #reattach(turn) {
    this.#attachments.markDetached(turn);
    this.#attachments.attach([turn]);
  }

  #followRemote(frame, at) {
    const turn = this.create(frame.turn);
    this.#turns.set(turn.id, turn);
    this.#apply(turn, frame, at);
    if (!turn.ended) {
      this.#connection.conversation(turn.conversation).emitTurn(turn);
      this.#connection.emit("turn", turn);
    }
  }

  #apply(turn, frame, at) {
    try {
      if (frame.type === "turn.started" && turn.position.seq > 0 && this.#attachments.beginsAgain(turn)) {
        turn.receive({ type: "turn.reset", turn: turn.id, seq: 0, epoch: frame.epoch, reason: "the turn was attached from its start" }, at);
      }
      turn.receive(frame, at);
    } catch (error) {
      if (!(error instanceof LawViolation)) throw error;
      this.#reportViolation(error);
      this.fail(turn, error);
      this.#connection.detach(turn); // further events can't be applied
      return;
    }
    this.#attachments.markAttached(turn);
    if (turn.ended) this.#remove(turn, "ended");
  }

  #reportViolation(error) {
    console.error(error);
    this.#connection.emit("violation", error);
  }

  #remove(turn, outcome, resumable = false) {
    this.#turns.delete(turn.id);
    this.#attachments.markDetached(turn);
    if (!resumable) this.#storedIds.delete(turn.id);
    this.#outcomes.set(turn.id, outcome);
    if (this.#outcomes.size > OUTCOMES_MAX) this.#outcomes.delete(this.#outcomes.keys().next().value);
  }
}
