/**
 * The part of the WebSocket interface that ReconnectingSocket uses, over HTTP: for networks that let no WebSocket through.
 *
 * It answers each frame as the gateway would on a socket. Turns are streamed as server-sent events, and other requests are
 * sent to their addresses. Attached conversations and the list are asked for changes at each ping.
 */

import { TurnwireError } from "./errors.js";
import { HttpRequests, Lost } from "./http_requests.js";
import { SocketProbe } from "./socket_probe.js";
import { TurnStreams } from "./turn_streams.js";

export { SocketProbe };

/** How long the answer to a cancel waits for the ending of the turn that is streamed here. */
const ENDING_MS = 5_000;

export class HttpSocket {
  onopen = null;
  onmessage = null;
  onclose = null;
  onerror = null;
  binaryType = "";
  readyState = 0;
  #requests;
  #streams;
  /** The last request of each conversation, as a promise, so that the gateway gets them in their order. */
  #latest = new Map();
  /** The starts whose answers have not come, as promises, by turn. */
  #starting = new Map();
  /** The revisions of the attached conversations. */
  #attached = new Map();
  /** The revisions of the listed conversations; null: the list isn't attached. */
  #listed = null;

  /** @param {string} url the address of the gateway's WebSocket @param {string} [token] the credential */
  constructor(url, token) {
    this.#requests = new HttpRequests(url, token);
    this.#streams = new TurnStreams(this.#requests, (frame) => this.#deliver(frame), (lost) => this.#lose(lost));
    void this.#begin();
  }

  /** Takes a frame as JSON. */
  send(data) {
    void this.#handle(JSON.parse(data));
  }

  close() {
    this.readyState = 3;
    this.#streams.close();
    this.#requests.close();
  }

  async #begin() {
    try {
      const ready = await this.#requests.open();
      if (this.readyState !== 0) return;
      this.readyState = 1;
      this.onopen?.();
      this.#emit(ready);
    } catch (error) {
      this.#lose(error instanceof Lost ? error : refused(error));
    }
  }

  async #handle({ id, ...frame }) {
    try {
      const result = await this.#inOrder(frame);
      if (id !== undefined) this.#emit({ type: "result", id, result });
    } catch (error) {
      if (error instanceof Lost) this.#lose(error);
      else this.#refuse(id, error);
    }
  }

  #refuse(id, error) {
    const { code = "internal", message, retryable = false, retry_after_ms, path, stored_message } = error.wire ?? error;
    this.#emit({ type: "error", id, error: { code, message, retryable, retry_after_ms, path, stored_message } });
  }

  /** Answers a frame after the earlier ones of its conversation, as a socket would begin them. */
  async #inOrder(frame) {
    const { conversation, type } = frame;
    if (frame.as !== undefined) throw unsupported("the field `as`");
    if (conversation === undefined || type === "turn.cancel") return this.#answer(frame);
    const before = this.#latest.get(conversation);
    const answer = before ? before.then(() => this.#answer(frame)) : this.#answer(frame);
    const settled = answer.then(() => {}, () => {});
    this.#latest.set(conversation, settled);
    void settled.then(() => this.#latest.get(conversation) === settled && this.#latest.delete(conversation));
    return answer;
  }

  #answer(frame) {
    switch (frame.type) {
      case "ping":
        return this.#ping();
      case "auth":
        this.#requests.token = frame.token;
        return {};
      case "turn.start":
        return this.#start(frame);
      case "turn.attach":
        return this.#attach(frame.positions ?? { [frame.turn]: { epoch: frame.epoch, seq: frame.after } });
      case "turn.detach":
        this.#streams.detach(frame.turn);
        return {};
      case "turn.cancel":
        return this.#cancel(frame);
      case "conversation.attach":
        return this.#attachConversation(frame);
      case "conversation.detach":
        this.#attached.delete(frame.conversation);
        return {};
      case "conversations.attach":
        return this.#attachList();
      case "conversations.detach":
        this.#listed = null;
        return {};
      default:
        return this.#requests.send(frame);
    }
  }

  async #start(frame) {
    const started = this.#streams.start(frame);
    this.#starting.set(frame.turn, started.catch(() => {}));
    try {
      return await started;
    } finally {
      this.#starting.delete(frame.turn);
    }
  }

  async #attach(positions) {
    const entries = Object.entries(positions).map(async ([turn, position]) => [turn, await this.#streams.attach(turn, position)]);
    return { turns: Object.fromEntries(await Promise.all(entries)) };
  }

  async #cancel({ turn, turns = [turn], reason, conversation, mine }) {
    if (conversation !== undefined || mine !== undefined) throw unsupported("cancelling all turns of a conversation or of a user");
    const answers = await Promise.all(turns.map((id) => this.#cancelOne(id, reason)));
    return { turns: Object.assign({}, ...answers) };
  }

  async #cancelOne(turn, reason) {
    await this.#starting.get(turn);
    const response = await this.#requests.fetch("POST", `turns/${encodeURIComponent(turn)}/cancel`, { reason });
    const { turns } = await response.json();
    if (turns[turn] !== "not_found") await this.#streams.ended(turn, ENDING_MS);
    return turns;
  }

  async #attachConversation({ conversation, positions = {} }) {
    const { revision } = await this.#requests.send({ type: "conversation.get", conversation });
    this.#attached.set(conversation, revision);
    const { turns } = await this.#attach(positions);
    const gone = Object.entries(turns).filter(([, answer]) => answer.error);
    for (const [turn] of gone) delete turns[turn];
    return { conversation, revision, turns, gone: Object.fromEntries(gone.map(([turn, { error }]) => [turn, error.stored_message ?? null])) };
  }

  async #attachList() {
    this.#listed = new Map();
    for (const { id, revision } of await this.#list()) this.#listed?.set(id, revision);
    return {};
  }

  async #ping() {
    this.#streams.check();
    const pong = await this.#requests.ping();
    void this.#findChanges().catch(() => {}); // the next ping finds them
    return pong;
  }

  /** Tells what has changed in the attached conversations and in the list. */
  async #findChanges() {
    for (const [conversation, known] of this.#attached) {
      const { revision, title, head, system } = await this.#requests.send({ type: "conversation.get", conversation });
      if (revision === known || !this.#attached.has(conversation)) continue;
      this.#attached.set(conversation, revision);
      this.#emit({ type: "conversation.updated", conversation, revision, title, head, system });
    }
    for (const { id, title, updated_at, head, revision, pinned } of this.#listed ? await this.#list() : []) {
      if (!this.#listed || this.#listed.get(id) === revision) continue;
      this.#listed.set(id, revision);
      this.#emit({ type: "conversations.changed", conversation: id, change: "changed", title, updated_at, head, revision, pinned });
    }
  }

  async #list() {
    return (await this.#requests.send({ type: "conversation.list", limit: 50 })).conversations;
  }

  #emit(frame) {
    this.#deliver(JSON.stringify(frame));
  }

  #deliver(data) {
    try {
      this.onmessage?.({ data });
    } catch (error) {
      console.error("turnwire: a frame couldn't be handled", error); // the stream that brought it goes on
    }
  }

  #lose({ code, message: reason, error }) {
    if (this.readyState === 3) return;
    this.close();
    this.onclose?.({ code, reason, error });
  }
}

/** Returns the loss for a gateway that has refused the opening. */
function refused(error) {
  return error.retryable || !error.code ? new Lost(1006, error.message) : new Lost(0, "", error.wire ?? error);
}

function unsupported(what) {
  return new TurnwireError({ code: "unsupported", message: `Over HTTP, ${what} isn't possible. Name the turns, or use a WebSocket.` });
}
