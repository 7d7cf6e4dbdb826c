/**
 * A turn's events on their way to the one who iterates. For a consumer that is behind, or isn't there, neighbouring
 * deltas of one part are merged as the gateway merges them (law 1), so that nothing piles up, and nothing is lost.
 */

const ARRIVED = Symbol("arrived");

/** When an event came, in ms by `performance.now()`; of merged deltas the first. */
export function arrivedAt(event) {
  return event[ARRIVED];
}

export class EventQueue {
  #events = [];
  #taken = 0;
  #closed = false;
  #wake = null;

  push(event, at) {
    const last = this.#taken < this.#events.length ? this.#events[this.#events.length - 1] : undefined;
    if (last !== undefined && mergeable(last, event)) {
      this.#events[this.#events.length - 1] = merged(last, event);
    } else {
      // A symbol shows neither in JSON nor in MessagePack: the event stays what came.
      event[ARRIVED] = at;
      this.#events.push(event);
    }
    this.#wakeUp();
  }

  close() {
    this.#closed = true;
    this.#wakeUp();
  }

  async *[Symbol.asyncIterator]() {
    while (true) {
      while (this.#taken < this.#events.length) yield this.#take();
      if (this.#closed) return;
      await new Promise((resolve) => (this.#wake = resolve));
    }
  }

  #take() {
    const event = this.#events[this.#taken++];
    if (this.#taken === this.#events.length) {
      this.#events = [];
      this.#taken = 0;
    }
    return event;
  }

  #wakeUp() {
    this.#wake?.();
    this.#wake = null;
  }
}

function mergeable(last, next) {
  if (last.type !== "turn.delta" || next.type !== "turn.delta" || last.part !== next.part) return false;
  return last.text !== undefined && next.text !== undefined && last.signature === undefined && next.signature === undefined;
}

/** A new event: the old one may be in somebody's hands, a wire view's for one. */
function merged(last, next) {
  const event = { ...next, after: last.after ?? last.seq - 1, text: last.text + next.text };
  event[ARRIVED] = last[ARRIVED];
  return event;
}
