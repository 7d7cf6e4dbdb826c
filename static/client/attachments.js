/**
 * Attaches to turns and conversations on the current socket, one request at a time.
 *
 * Each attach to a turn replaces the previous one and replays events from a position. Two concurrent attaches to one
 * turn would deliver its events twice.
 */

const RETRY_MS = 1_000;
/** The maximum number of positions in one request. They fit in a frame of 64 KiB. */
const TURNS_PER_REQUEST = 200;

export class Attachments {
  #request;
  #failTurn;
  #socketNumber;
  #getTurn;
  /** Ids of the turns whose events arrive, or are about to arrive, on the current socket. */
  #attached = new Set();
  /** Ids of the turns that were detached or ended after the last request was sent. */
  #detachedSinceRequest = new Set();
  /** Ids of the turns that were attached from their first event. */
  #fromStart = new Set();
  #queue = Promise.resolve();

  /**
   * @param {(type: string, fields: object) => Promise<object>} request sends a request
   * @param {(turn: object, error: object) => void} failTurn ends a turn that can't be attached
   * @param {() => number | null} socketNumber returns the number of the live socket, or null if there is none
   * @param {(id: string) => import("./turn.js").Turn | undefined} getTurn returns a followed turn
   */
  constructor(request, failTurn, socketNumber, getTurn) {
    this.#request = request;
    this.#failTurn = failTurn;
    this.#socketNumber = socketNumber;
    this.#getTurn = getTurn;
  }

  /** Forgets all attachments. Call it when a new socket is ready. */
  reset() {
    this.#attached.clear();
    this.#detachedSinceRequest.clear();
    this.#fromStart.clear();
  }

  /** Attaches to turns from their positions. */
  attach(turns) {
    for (let i = 0; i < turns.length; i += TURNS_PER_REQUEST) {
      this.#enqueue(() => this.#attach(turns.slice(i, i + TURNS_PER_REQUEST)));
    }
  }

  /**
   * Attaches to a conversation and, from their positions, to its turns.
   * @param {import("./conversation.js").Conversation} conversation
   */
  attachConversation(conversation) {
    this.#enqueue(() => this.#attachConversation(conversation));
  }

  /** Records that events of the turn arrive on this socket. */
  markAttached(turn) {
    this.#attached.add(turn.id);
  }

  /** Records that events of the turn no longer arrive: it has ended or was detached. */
  markDetached(turn) {
    this.#attached.delete(turn.id);
    this.#fromStart.delete(turn.id);
    this.#detachedSinceRequest.add(turn.id);
  }

  /**
   * Returns whether this first event may arrive a second time, which is true once for each attach from the start: the first
   * one was on its way, because of an attached conversation, when the attach was sent.
   */
  beginsAgain(turn) {
    return this.#fromStart.delete(turn.id);
  }

  async #attach(turns) {
    const pending = this.#unattached(turns);
    if (pending.length === 0) return;
    this.#detachedSinceRequest.clear();
    for (const turn of pending) if (turn.position.seq === 0) this.#fromStart.add(turn.id);
    try {
      const { turns: answers } = await this.#request("turn.attach", { positions: positionsOf(pending) });
      for (const turn of pending) {
        const answer = answers[turn.id];
        if (answer?.error) this.#onRefused([turn], answer.error);
        else if (answer) this.#onAttached(turn.id, answer);
      }
    } catch (error) {
      this.#onRefused(pending, error);
    }
  }

  async #attachConversation(conversation) {
    if (!conversation.attached) return;
    const pending = this.#unattached(conversation.turns.filter((turn) => turn.position.seq > 0));
    this.#detachedSinceRequest.clear();
    const positions = pending.length > 0 ? positionsOf(pending) : undefined;
    try {
      const answer = await this.#request("conversation.attach", { conversation: conversation.id, positions });
      for (const [id, attachment] of Object.entries(answer.turns)) if (!attachment.error) this.#onAttached(id, attachment);
      // `gone` doesn't say why a turn can't be attached. The answer to `turn.attach` does.
      this.attach(pending.filter((turn) => turn.id in answer.gone));
      conversation.onAttached(answer);
    } catch (error) {
      if (error.code === "connection_lost") return; // the next socket attaches again
      if (!error.retryable) conversation.onAttachFailed(error);
      else this.#retryLater(error, () => this.attachConversation(conversation));
    }
  }

  #onAttached(id, answer) {
    this.#getTurn(id)?.accept(answer);
    // `turn.detached` or the ending may have arrived before this answer.
    if (!this.#detachedSinceRequest.has(id)) this.#attached.add(id);
  }

  #onRefused(turns, error) {
    if (error.code === "connection_lost") return; // the next socket attaches again
    if (!error.retryable) for (const turn of turns) this.#failTurn(turn, error);
    else this.#retryLater(error, () => this.attach(turns));
  }

  /** Returns the turns that have not ended and are not attached. */
  #unattached(turns) {
    return turns.filter((turn) => !turn.ended && !this.#attached.has(turn.id));
  }

  /**
   * Runs `attach` when the earlier ones are done, unless the socket has changed: on a new socket everything is attached
   * again anyway. Does nothing if no socket is live.
   */
  #enqueue(attach) {
    const socketNumber = this.#socketNumber();
    if (socketNumber === null) return;
    this.#queue = this.#queue.then(() => (socketNumber === this.#socketNumber() ? attach() : undefined));
  }

  #retryLater(error, attach) {
    const socketNumber = this.#socketNumber();
    setTimeout(() => socketNumber === this.#socketNumber() && attach(), error.retry_after_ms ?? RETRY_MS);
  }
}

function positionsOf(turns) {
  return Object.fromEntries(turns.map((turn) => [turn.id, turn.position]));
}
