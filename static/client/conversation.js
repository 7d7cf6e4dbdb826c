/** One conversation: its record, its messages and its turns. */

import { reasonText } from "./abort_reason.js";
import { Emitter } from "./emitter.js";
import { TurnwireError } from "./errors.js";
import { messagePages } from "./pages.js";

/**
 * Created by `connection.conversation(id)`, which sends no request.
 *
 * While attached, it dispatches CustomEvents. Their `detail` is: `turn` (a Turn that was started elsewhere), `updated`
 * ({revision, title, head, system?}), `reattached` ({revision}: turns may have started and ended while the socket was away),
 * `deleted` (null).
 */
export class Conversation extends Emitter {
  id;
  revision = null;
  attached = false;
  #connection;
  #attaching = null;

  /**
   * @param {string} id
   * @param {object} connection callbacks of its connection: `request`, `start`, `turnsIn`, `attach`, `isLive`
   */
  constructor(id, connection) {
    super();
    this.id = id;
    this.#connection = connection;
  }

  get turns() {
    return this.#connection.turnsIn(this.id);
  }

  start(fields) {
    return this.#connection.start({ ...fields, conversation: this.id });
  }

  estimate(fields) {
    return this.#request("turn.estimate", fields);
  }

  get() {
    return this.#request("conversation.get");
  }

  update(fields) {
    return this.#request("conversation.update", fields);
  }

  clear() {
    return this.#request("conversation.clear");
  }

  delete() {
    return this.#request("conversation.delete");
  }

  usage({ since } = {}) {
    return this.#request("usage.get", { since });
  }

  cancel(reason) {
    return this.#request("turn.cancel", { reason: reasonText(reason) });
  }

  messages({ limit } = {}) {
    return messagePages(this.#connection.request, { conversation: this.id, limit });
  }

  /**
   * Attaches: every turn of the conversation arrives here, also on later sockets. Resolves when the gateway has
   * answered. Rejects with a TurnwireError if the gateway refuses, or if `detach` or `close` is called before
   * that.
   */
  attach() {
    this.attached = true;
    if (this.#attaching) return this.#attaching.promise;
    const attaching = {};
    attaching.promise = new Promise((resolve, reject) => Object.assign(attaching, { resolve, reject }));
    attaching.promise.catch(() => {});
    this.#attaching = attaching;
    this.#connection.attach(this);
    return attaching.promise;
  }

  async detach() {
    this.attached = false;
    this.#settle("reject", new TurnwireError({ code: "withdrawn", message: "Detached before the gateway answered." }));
    if (this.#connection.isLive()) await this.#request("conversation.detach");
  }

  /** Handles an event of the conversation itself. */
  receive(frame) {
    if (frame.type === "conversation.updated") {
      this.revision = frame.revision;
      const { revision, title, head, system } = frame;
      this.emit("updated", { revision, title, head, system });
    } else if (frame.type === "conversation.deleted") {
      this.#onDeleted();
    }
  }

  /** Dispatches a turn that was started elsewhere. */
  emitTurn(turn) {
    this.emit("turn", turn);
  }

  /** Rejects a pending attach: the connection is closed for good. */
  close(error) {
    this.#settle("reject", error);
  }

  /** Records that the gateway has attached it. */
  onAttached(answer) {
    const isReattach = this.#attaching === null;
    this.revision = answer.revision;
    this.#settle("resolve", answer);
    if (isReattach) this.emit("reattached", { revision: answer.revision });
  }

  /** Records that the gateway refused the attach. */
  onAttachFailed(error) {
    this.#settle("reject", error);
    if (error.code === "not_found") this.#onDeleted();
    else this.attached = false;
  }

  #onDeleted() {
    if (!this.attached) return;
    this.attached = false;
    this.emit("deleted", null);
  }

  #settle(method, value) {
    this.#attaching?.[method](value);
    this.#attaching = null;
  }

  #request(type, fields) {
    return this.#connection.request(type, { conversation: this.id, ...fields });
  }
}
