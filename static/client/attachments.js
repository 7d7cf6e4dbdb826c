/**
 * Attaching to turns and conversations on the present socket, one request after the other: an attach replaces the one
 * before and replays from its position, so two at once for one turn would give its events twice.
 */

const RETRY_MS = 1_000;
/** So many positions fit a frame of 64 KiB with room to spare. */
const TURNS_PER_REQUEST = 200;

export class Attachments {
  #request;
  #fail;
  #socket;
  #turnOf;
  /** The ids of the turns whose events come, or are about to come, on the present socket. */
  #attached = new Set();
  /** Those that were detached, or ended, since the last request was made. */
  #detached = new Set();
  #tail = Promise.resolve();

  /**
   * @param {(type: string, fields: object) => Promise<object>} request
   * @param {(turn: object, error: object) => void} fail ends a turn that can't be attached
   * @param {() => number | null} socket the number of the live socket, null where there is none
   * @param {(id: string) => import("./turn.js").Turn | undefined} turnOf a turn that is followed
   */
  constructor(request, fail, socket, turnOf) {
    this.#request = request;
    this.#fail = fail;
    this.#socket = socket;
    this.#turnOf = turnOf;
  }

  /** A new socket: nothing is attached to it. */
  begin() {
    this.#attached.clear();
    this.#detached.clear();
  }

  /** Goes on with turns from their positions. */
  attach(turns) {
    for (let i = 0; i < turns.length; i += TURNS_PER_REQUEST) {
      this.#next(() => this.#attach(turns.slice(i, i + TURNS_PER_REQUEST)));
    }
  }

  /**
   * Attaches to a conversation and, from their positions, to its turns.
   * @param {import("./conversation.js").Conversation} conversation
   */
  attachConversation(conversation) {
    this.#next(() => this.#attachConversation(conversation));
  }

  /** Events of the turn come. */
  attached(turn) {
    this.#attached.add(turn.id);
  }

  /** They no longer do: the turn has ended, or was detached. */
  detached(turn) {
    this.#attached.delete(turn.id);
    this.#detached.add(turn.id);
  }

  async #attach(turns) {
    const left = this.#missing(turns);
    if (left.length === 0) return;
    this.#detached.clear();
    try {
      const { turns: answers } = await this.#request("turn.attach", { positions: positionsOf(left) });
      for (const turn of left) {
        const answer = answers[turn.id];
        if (answer?.error) this.#refused([turn], answer.error);
        else if (answer) this.#taken(turn.id, answer);
      }
    } catch (error) {
      this.#refused(left, error);
    }
  }

  async #attachConversation(conversation) {
    if (!conversation.attached) return;
    const left = this.#missing(conversation.turns.filter((turn) => turn.position.seq > 0));
    this.#detached.clear();
    const positions = left.length > 0 ? positionsOf(left) : undefined;
    try {
      const answer = await this.#request("conversation.attach", { conversation: conversation.id, positions });
      for (const [id, taken] of Object.entries(answer.turns)) if (!taken.error) this.#taken(id, taken);
      // What the conversation no longer has is asked for by itself: the answer says why.
      this.attach(left.filter((turn) => turn.id in answer.gone));
      conversation.taken(answer);
    } catch (error) {
      if (error.code === "connection_lost") return; // the next socket attaches anew
      if (!error.retryable) conversation.refused(error);
      else this.#later(error, () => this.attachConversation(conversation));
    }
  }

  #taken(id, answer) {
    this.#turnOf(id)?.answer(answer);
    // The event that it is detached, or its ending, may stand before the answer.
    if (!this.#detached.has(id)) this.#attached.add(id);
  }

  #refused(turns, error) {
    if (error.code === "connection_lost") return; // the next socket attaches anew
    if (!error.retryable) for (const turn of turns) this.#fail(turn, error);
    else this.#later(error, () => this.attach(turns));
  }

  /** Those whose events don't come yet. */
  #missing(turns) {
    return turns.filter((turn) => !turn.ended && !this.#attached.has(turn.id));
  }

  /** Does it when what goes before is done, if the socket is still the same: the next one begins anew. */
  #next(attach) {
    const socket = this.#socket();
    if (socket === null) return;
    this.#tail = this.#tail.then(() => (socket === this.#socket() ? attach() : undefined));
  }

  #later(error, attach) {
    const socket = this.#socket();
    setTimeout(() => socket === this.#socket() && attach(), error.retry_after_ms ?? RETRY_MS);
  }
}

function positionsOf(turns) {
  return Object.fromEntries(turns.map((turn) => [turn.id, turn.position]));
}
