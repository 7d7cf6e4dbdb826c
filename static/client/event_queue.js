/**
 * The queue between a turn's events and the consumer that iterates them.
 *
 * If the consumer is slow or absent, adjacent deltas of one part are merged, as the gateway merges them (law 1). This
 * keeps the queue short without losing text.
 */

const ARRIVED_AT = Symbol("arrivedAt");

/** Returns when an event arrived, in ms from `performance.now()`. Merged deltas have the time of the first. */
export function arrivedAt(event) {
  return event[ARRIVED_AT];
}

export class EventQueue {
  #events = [];
  #nextIndex = 0;
  #closed = false;
  #wake = null;

  push(event, at) {
    const last = this.#nextIndex < this.#events.length ? this.#events[this.#events.length - 1] : undefined;
    if (last !== undefined && canMerge(last, event)) {
      this.#events[this.#events.length - 1] = merge(last, event);
    } else {
      // JSON and MessagePack ignore symbol keys, so an encoded event stays as it was received.
      event[ARRIVED_AT] = at;
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
      while (this.#nextIndex < this.#events.length) yield this.#shift();
      if (this.#closed) return;
      await new Promise((resolve) => (this.#wake = resolve));
    }
  }

  #shift() {
    const event = this.#events[this.#nextIndex++];
    if (this.#nextIndex === this.#events.length) {
      this.#events = [];
      this.#nextIndex = 0;
    }
    return event;
  }

  #wakeUp() {
    this.#wake?.();
    this.#wake = null;
  }
}

function canMerge(last, next) {
  if (last.type !== "turn.delta" || next.type !== "turn.delta" || last.part !== next.part) return false;
  return last.text !== undefined && next.text !== undefined && last.signature === undefined && next.signature === undefined;
}

/** Returns a new event, because others may hold the old one, for example the wire view. */
function merge(last, next) {
  const event = { ...next, after: last.after ?? last.seq - 1, text: last.text + next.text };
  event[ARRIVED_AT] = last[ARRIVED_AT];
  return event;
}
