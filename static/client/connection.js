/** The public connection: turns, conversations and requests over one reconnecting socket. */

import { reasonText } from "./abort_reason.js";
import { Attachments } from "./attachments.js";
import { Conversation } from "./conversation.js";
import { Emitter } from "./emitter.js";
import { connectionClosed, FrameTooLarge, TurnwireError } from "./errors.js";
import { FollowedTurns } from "./followed_turns.js";
import { ListAttachment } from "./list_attachment.js";
import { conversationPages } from "./pages.js";
import { ReconnectingSocket } from "./reconnecting_socket.js";
import { Requests } from "./requests.js";
import { RunningTurnIds } from "./running_turn_ids.js";

const PING_EVERY_MS = 10_000;

/**
 * Created by `connect`.
 *
 * Dispatches CustomEvents. Their `detail` is: `ready` (of a new socket, before anything that waits is sent on it: a listener
 * that closes the connection prevents that), `state` (a ConnectionState), `roundtrip` (ms), `turn` (a Turn that was
 * started elsewhere, in an attached conversation), `violation` (a LawViolation), `event` (a frame that belongs to no turn
 * of this connection: `durability`, `going_away`, …), `conversations` (a change of the list, after `attachConversations`).
 */
export class Connection extends Emitter {
  #socket = null;
  #requests = new Requests((frame) => this.#socket.send(frame));
  #turns;
  #conversations = new Map();
  #url;
  #token;
  #credential;
  /** The ids of the turns whose starts are being sent over HTTP. */
  #uploading = new Set();
  #renewedExpiry = null;
  #attachments = new Attachments(
    (type, fields) => this.request(type, fields),
    (turn, error) => this.#turns.fail(turn, error),
    () => (this.state.state === "live" ? this.#socket.traffic.sockets : null),
    (id) => this.#turns.get(id),
  );
  #list = new ListAttachment(
    (type) => this.request(type),
    () => (this.state.state === "live" ? this.#socket.traffic.sockets : null),
    (change) => this.emit("conversations", change),
  );
  #pingTimer = 0;
  #isLive = false;

  constructor({ url, codec = "json", transport = "auto", token, ticket, wire = null, socket, webSocket, storage }) {
    super();
    this.#url = url;
    this.#token = token;
    this.#credential = token ?? ticket; // an `auth` frame accepts either
    this.#turns = new FollowedTurns(new RunningTurnIds(url, storage), this.#attachments, {
      cancel: (turn, reason) => this.cancel([turn], reason),
      detach: (turn) => void this.request("turn.detach", { turn: turn.id }).catch(() => {}),
      conversation: (id) => this.#conversations.get(id),
      emit: (type, detail) => this.emit(type, detail),
    });
    this.#socket = new ReconnectingSocket({
      url,
      codec,
      transport,
      token,
      ticket,
      socket,
      webSocket,
      isIdle: () => this.#turns.running.length === 0 && !this.#requests.isBusy,
      onFrame: (frame, at) => this.#receive(frame, at),
      onExpiring: (expires_at) => void this.#renew(expires_at),
      onWake: this.#pingQuietly,
      onState: (state) => this.#onStateChange(state),
    });
    this.#socket.wire = wire;
  }

  get state() {
    return this.#socket?.state ?? { state: "connecting" };
  }

  get codec() {
    return this.#socket.codec;
  }

  get transport() {
    return this.#socket.transport;
  }

  get traffic() {
    return this.#socket.traffic;
  }

  get wire() {
    return this.#socket.wire;
  }

  set wire(observer) {
    this.#socket.wire = observer;
  }

  /** Turns that have not ended, oldest first. */
  get running() {
    return this.#turns.running;
  }

  request = (type, fields = {}) => {
    if (this.state.state === "closed") return Promise.reject(closedError(this.state));
    return this.#requests.send(type, fields);
  };

  start({ signal, ...fields } = {}) {
    if (signal && typeof signal.addEventListener !== "function") throw new TypeError("`signal` isn't an AbortSignal. Pass the `signal` of an AbortController.");
    const id = fields.turn ?? randomId();
    const existing = this.#turns.get(id);
    if (existing) return existing; // a repeated start returns the same turn (law 6)
    const turn = this.#turns.create(id);
    if (signal?.aborted) {
      turn.withdraw(reasonText(signal.reason));
      return turn;
    }
    this.#turns.add(turn);
    if (signal) cancelOnAbort(turn, signal);
    this.request("turn.start", { ...fields, turn: id }).then(
      (result) => turn.accept(result),
      (error) => this.#onStartRefused(turn, fields, error),
    );
    return turn;
  }

  follow(id) {
    const existing = this.#turns.get(id);
    if (existing) return existing;
    const turn = this.#turns.create(id);
    this.#turns.add(turn);
    this.#attachments.attach([turn]);
    return turn;
  }

  recall() {
    return this.#turns.recall().map((id) => this.follow(id));
  }

  async cancel(turns, reason) {
    const ids = turns.filter((turn) => !turn.ended && !this.#withdrawUnsent(turn)).map((turn) => turn.id);
    if (ids.length === 0) return {};
    const answer = await this.request("turn.cancel", { turns: ids, reason: reasonText(reason) });
    for (const id of ids) {
      // A start that is still pending gets its own answer. Any other turn that isn't found no longer exists.
      if (answer.turns[id] === "not_found" && !this.#requests.isStarting(id)) this.#turns.fail(this.#turns.get(id), unknownTurn());
    }
    return answer.turns;
  }

  conversation(id) {
    let conversation = this.#conversations.get(id);
    if (!conversation) {
      conversation = new Conversation(id, {
        request: this.request,
        start: (fields) => this.start(fields),
        turnsIn: (conversation) => this.running.filter((turn) => turn.conversation === conversation),
        attach: (conversation) => {
          if (this.state.state === "closed") conversation.close(closedError(this.state));
          else this.#attachments.attachConversation(conversation);
        },
        isLive: () => this.state.state === "live",
      });
      this.#conversations.set(id, conversation);
    }
    return conversation;
  }

  async createConversation(fields) {
    const { id } = await this.request("conversation.create", fields);
    return this.conversation(id);
  }

  conversations({ query, limit, pinned } = {}) {
    return conversationPages(this.request, { query, limit, pinned });
  }

  /** Attaches to the list of conversations: each change is dispatched as `conversations`, also on later sockets. */
  attachConversations() {
    return this.state.state === "closed" ? Promise.reject(closedError(this.state)) : this.#list.attach();
  }

  detachConversations() {
    return this.#list.detach();
  }

  getTurn(id) {
    return this.request("turn.get", { turn: id });
  }

  estimate(fields) {
    return this.request("turn.estimate", fields);
  }

  models() {
    return this.request("models.list");
  }

  usage({ conversation, since } = {}) {
    return this.request("usage.get", { conversation, since });
  }

  feedback(message, rating, comment) {
    return this.request("feedback.put", { message, rating, comment });
  }

  /** Measures and returns the round trip in ms. */
  async ping() {
    const sentAt = performance.now();
    await this.request("ping");
    const roundtrip = performance.now() - sentAt;
    this.emit("roundtrip", roundtrip);
    return roundtrip;
  }

  retryNow() {
    this.#socket.retryNow();
  }

  switchCodec(name) {
    this.#socket.switchCodec(name);
  }

  drop() {
    this.#socket.drop();
  }

  offline() {
    this.#socket.offline();
  }

  online() {
    this.#socket.online();
  }

  pauseReading(ms) {
    return this.#socket.pauseReading(ms);
  }

  close() {
    this.#socket.close();
  }

  #onStartRefused(turn, fields, error) {
    // A ticket is only for sockets.
    if (error instanceof FrameTooLarge && (this.#token || !this.#credential)) void this.#startOverHttp(turn, fields);
    else this.#turns.fail(turn, error);
  }

  /** Starts a turn that doesn't fit in a frame. Its events arrive on the socket. */
  async #startOverHttp(turn, fields) {
    this.#uploading.add(turn.id);
    try {
      const { startOverHttp } = await import("./large_start.js");
      await startOverHttp(this.#url, await this.#token?.(), { ...fields, turn: turn.id });
      // If it was withdrawn meanwhile, the gateway may have it all the same.
      if (turn.ended) await this.request("turn.cancel", { turn: turn.id });
      else this.#attachments.attach([turn]);
    } catch (error) {
      this.#turns.fail(turn, error);
    } finally {
      this.#uploading.delete(turn.id);
    }
  }

  /** Withdraws a start that the gateway can't have accepted. Returns whether there was one. */
  #withdrawUnsent(turn) {
    if (!this.#requests.withdrawStart(turn.id) && !this.#uploading.has(turn.id)) return false;
    this.#turns.withdraw(turn);
    return true;
  }

  #onStateChange(state) {
    const staysLive = this.#isLive && state.state === "live"; // only `suspect` has changed
    this.#isLive = state.state === "live";
    if (staysLive) {
      this.emit("state", state);
      return;
    }
    clearInterval(this.#pingTimer);
    if (state.state === "live") {
      this.emit("ready", state.ready);
      if (this.state.state === "closed") return; // a listener has closed it
      this.#resume();
    } else if (state.state === "waiting") this.#interrupt();
    else if (state.state === "closed") this.#shutDown(closedError(state));
    this.emit("state", state);
  }

  #resume() {
    this.#attachments.reset();
    this.#requests.resume();
    for (const conversation of this.#conversations.values()) this.#attachments.attachConversation(conversation);
    // When this request is sent, it leaves out the turns that were attached with their conversation.
    this.#attachments.attach(this.running.filter(({ id }) => !this.#requests.isStarting(id) && !this.#uploading.has(id)));
    this.#list.resume();
    this.#pingQuietly();
    this.#pingTimer = setInterval(this.#pingQuietly, PING_EVERY_MS);
  }

  /** Ignores errors: if the socket is lost, the state reports it. */
  #pingQuietly = () => void this.ping().catch(() => {});

  #interrupt() {
    for (const turn of this.running.filter(({ position }) => position.seq > 0)) {
      // Events of the turn have arrived, so its start isn't sent again: that would replay from the first event. The next
      // socket attaches from the position.
      const { id, conversation, status, position } = turn;
      this.#requests.settleStart(id, { turn: id, conversation, status, epoch: position.epoch });
    }
    this.#requests.interrupt();
  }

  #shutDown(error) {
    this.#requests.close(error);
    this.#list.close(error);
    for (const conversation of this.#conversations.values()) conversation.close(error);
    for (const turn of this.running) this.#turns.fail(turn, error, { resumable: true });
  }

  async #renew(expires_at) {
    // Each expiry causes one attempt: if a renewal left the expiry unchanged, another one probably would too.
    if (!this.#credential || expires_at === this.#renewedExpiry) return;
    this.#renewedExpiry = expires_at;
    try {
      const token = await this.#credential();
      if (token) await this.request("auth", { token });
    } catch (cause) {
      // A lost socket needs no renewal: the next one has a credential of its own.
      if (this.state.state === "live") console.warn("turnwire: failed to renew the credential", cause);
    }
  }

  #receive(frame, at) {
    if (frame.type === "result" || frame.type === "result.piece" || (frame.type === "error" && frame.id)) this.#requests.receive(frame);
    else if (frame.turn !== undefined) this.#turns.receive(frame, at);
    else if (frame.type === "conversations.changed") this.#list.receive(frame);
    else {
      if (frame.conversation !== undefined) this.#conversations.get(frame.conversation)?.receive(frame);
      this.emit("event", frame);
    }
  }
}

/** Returns the error for what needs a connection that is closed for good: the gateway's own, if it gave one. */
function closedError({ reason, error }) {
  return error ? new TurnwireError(error) : connectionClosed(reason);
}

function cancelOnAbort(turn, signal) {
  const abort = () => void turn.cancel(signal.reason).catch(() => {});
  signal.addEventListener("abort", abort, { once: true });
  const removeListener = () => signal.removeEventListener("abort", abort);
  turn.done.then(removeListener, removeListener);
}

function unknownTurn() {
  return new TurnwireError({ code: "not_found", message: "The gateway no longer has this turn." });
}

/** Returns an id of 128 random bits. `crypto.randomUUID` isn't available over plain http. */
function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `t_${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
