/**
 * One turn as a client holds it: its position, the message folded from its events, the check of law 1
 * (contiguous) and law 2 (one ending), and the two ways to follow it: an async iterator and a promise.
 */

const ENDINGS = new Set(["turn.completed", "turn.cancelled", "turn.failed"]);
const ENVELOPE = new Set(["type", "turn", "seq", "part", "as"]);

/** An error of the gateway (its `code` is in the protocol's table) or of this client. */
export class TurnwireError extends Error {
  /** @param {{code: string, message: string, retryable?: boolean, retry_after_ms?: number, path?: string}} error */
  constructor(error) {
    super(error.message);
    this.name = "TurnwireError";
    this.code = error.code;
    this.retryable = error.retryable ?? false;
    this.retry_after_ms = error.retry_after_ms;
    this.path = error.path;
    this.stored_message = error.stored_message;
  }
}

/** The gateway broke a law of its protocol: a hole, a repetition, or an event after the ending. */
export class LawViolation extends TurnwireError {
  constructor(message) {
    super({ code: "law_violation", message, retryable: false });
    this.name = "LawViolation";
  }
}

/**
 * A started turn. Iterate it for its events (one consumer; the last event is its ending), or await `done`.
 *
 * - `id`, `conversation`, `model`, `input` (the user's message), `status` (`starting`, `queued`, `running`, …, `completed`, `cancelled`, `failed`)
 * - `parts`: the message so far, an array of protocol parts
 * - `position`: `{epoch, seq}`, what a reconnect continues from
 * - `accepted`: promise of `{turn, conversation, status, epoch}`, the gateway's answer to the start
 * - `done`: promise of the final message; a stopped turn resolves with what was said, a failed one rejects
 * - `cancel(reason)`: stops it; resolves when the gateway has answered
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
  #cancel;
  #settleAccepted;
  #settleDone;
  #queue = [];
  #waiting = null;

  /**
   * @param {string} id the turn's id, chosen by this client
   * @param {(reason?: string) => Promise<unknown>} cancel how its connection stops it
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

  /** The visible answer: the text parts joined. */
  get text() {
    return textOf(this.parts);
  }

  /** The question: the text parts of the user's message joined; empty until the turn has started. */
  get inputText() {
    return textOf(this.input?.parts ?? []);
  }

  cancel(reason) {
    return this.#cancel(reason);
  }

  /** Takes the gateway's answer to `turn.start`. */
  answer(result) {
    this.conversation ??= result.conversation;
    if (this.status === "starting") this.status = result.status;
    this.#settleAccepted.resolve(result);
  }

  /**
   * Takes the next event of this turn.
   * @throws {LawViolation} where the event does not continue the position, or follows the ending
   */
  accept(event) {
    this.#check(event);
    if (event.seq !== undefined) this.position = { epoch: event.epoch ?? this.position.epoch, seq: event.seq };
    this.#fold(event);
    this.#emit(event);
    if (ENDINGS.has(event.type)) this.#end(event);
  }

  /** Ends the turn on this side only: a refused start, a position that is gone, a connection closed for good. */
  fail(error) {
    if (this.ended) return;
    const event = { type: "turn.failed", turn: this.id, error, local: true };
    this.#settleAccepted.reject(error instanceof Error ? error : new TurnwireError(error));
    this.#fold(event);
    this.#emit(event);
    this.#end(event);
  }

  /** Ends a turn that never left this page. */
  withdraw() {
    if (this.ended) return;
    const event = { type: "turn.cancelled", turn: this.id, by: "client", local: true };
    this.#settleAccepted.reject(new TurnwireError({ code: "withdrawn", message: "Stopped before it was sent." }));
    this.#fold(event);
    this.#emit(event);
    this.#end(event);
  }

  async *[Symbol.asyncIterator]() {
    while (true) {
      while (this.#queue.length > 0) yield this.#queue.shift();
      if (this.ended) return;
      await new Promise((resolve) => (this.#waiting = resolve));
    }
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

  #fold(event) {
    switch (event.type) {
      case "turn.started":
        this.conversation = event.conversation;
        this.model = event.model;
        this.input = event.input;
        this.status = event.status;
        break;
      case "turn.status":
        if (event.status === "fallback") this.model = event.model;
        if (event.status !== "trimmed") this.status = event.status === "resumed" ? "running" : event.status;
        break;
      case "turn.reset":
        this.parts = [];
        this.status = "running";
        break;
      case "turn.part":
        this.parts[event.part] = opened(event);
        break;
      case "turn.delta":
        this.status = "running";
        extend(this.parts[event.part], event);
        break;
      default:
        if (ENDINGS.has(event.type)) this.status = event.type.slice("turn.".length);
    }
  }

  #emit(event) {
    this.#queue.push(event);
    this.#waiting?.();
    this.#waiting = null;
  }

  #end(event) {
    this.ending = event;
    this.#settleAccepted.resolve({ turn: this.id, conversation: this.conversation, ...this.position });
    this.#waiting?.();
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

function textOf(parts) {
  return parts.filter((part) => part?.kind === "text").map((part) => part.text).join("");
}

/** A `turn.part` event as the empty part that its deltas fill. */
function opened(event) {
  const part = {};
  for (const [name, value] of Object.entries(event)) if (!ENVELOPE.has(name)) part[name] = value;
  if (event.kind === "tool_call") part.arguments ??= "";
  else part.text ??= "";
  return part;
}

function extend(part, event) {
  if (!part) throw new LawViolation(`Turn ${event.turn}: a delta for part ${event.part}, which was never opened.`);
  if (event.signature !== undefined) part.signature = (part.signature ?? "") + event.signature;
  if (event.text === undefined) return;
  if (part.kind === "tool_call") part.arguments += event.text;
  else part.text += event.text;
}
