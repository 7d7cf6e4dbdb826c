/** One conversation: its record, its messages, and the turns that others start in it. */

import { closed, TurnwireError } from "./errors.js";
import { messagePages } from "./pages.js";

/**
 * Made by `connection.conversation(id)`; nothing is asked before a method is called.
 * Events (CustomEvents; `detail` is): `turn` (a Turn that was started elsewhere), `updated` ({revision, title, head}),
 * `reattached` ({revision}: turns may have begun and ended while the socket was away), `deleted` (null). They come while
 * it is attached.
 */
export class Conversation extends EventTarget {
  id;
  revision = null;
  attached = false;
  #connection;
  #attaching = null;

  /**
   * @param {string} id
   * @param {object} connection what a conversation needs of its connection: `request`, `start`, `turnsIn`, `attach`, `isLive`
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

  get() {
    return this.#ask("conversation.get");
  }

  update(fields) {
    return this.#ask("conversation.update", fields);
  }

  clear() {
    return this.#ask("conversation.clear");
  }

  delete() {
    return this.#ask("conversation.delete");
  }

  usage({ since } = {}) {
    return this.#ask("usage.get", { since });
  }

  cancel(reason) {
    return this.#ask("turn.cancel", { reason });
  }

  messages({ limit } = {}) {
    return messagePages(this.#connection.request, { conversation: this.id, limit });
  }

  /** From now on every turn of it arrives here, also after a lost socket. Resolves when the gateway has answered. */
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
    this.#settle("reject", new TurnwireError({ code: "withdrawn", message: "Detached before the answer came." }));
    if (this.#connection.isLive()) await this.#ask("conversation.detach");
  }

  /** Takes an event of the conversation itself. */
  take(frame) {
    if (frame.type === "conversation.updated") {
      this.revision = frame.revision;
      this.#tell("updated", { revision: frame.revision, title: frame.title, head: frame.head });
    } else if (frame.type === "conversation.deleted") {
      this.#deleted();
    }
  }

  /** A turn of it that was started elsewhere. */
  takeTurn(turn) {
    this.#tell("turn", turn);
  }

  /** The connection will not come back. */
  close(reason) {
    this.#settle("reject", closed(reason));
  }

  /** The gateway has attached it. */
  taken(answer) {
    const again = this.#attaching === null;
    this.revision = answer.revision;
    this.#settle("resolve", answer);
    if (again) this.#tell("reattached", { revision: answer.revision });
  }

  /** The gateway won't. */
  refused(error) {
    this.#settle("reject", error);
    if (error.code === "not_found") this.#deleted();
    else this.attached = false;
  }

  #deleted() {
    if (!this.attached) return;
    this.attached = false;
    this.#tell("deleted", null);
  }

  #settle(how, value) {
    this.#attaching?.[how](value);
    this.#attaching = null;
  }

  #ask(type, fields) {
    return this.#connection.request(type, { conversation: this.id, ...fields });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
