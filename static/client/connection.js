/** The connection that a program talks to: turns, conversations and requests over one link. */

import { Attachments } from "./attachments.js";
import { Conversation } from "./conversation.js";
import { closed, TurnwireError } from "./errors.js";
import { FollowedTurns } from "./followed_turns.js";
import { Link } from "./reconnecting_socket.js";
import { LiveTurns } from "./running_turn_ids.js";
import { conversationPages } from "./pages.js";
import { Requests } from "./requests.js";

const PING_EVERY_MS = 10_000;
const REASON_CHARS_MAX = 300;

/**
 * Made by `connect`. Events (CustomEvents; `detail` is): `state` (a LinkState), `roundtrip` (ms), `turn` (a Turn that was
 * started elsewhere, in an attached conversation), `violation` (a LawViolation), `event` (a frame that belongs to no turn
 * of this connection: `durability`, `going_away`, …).
 */
export class Connection extends EventTarget {
  #link = null;
  #requests = new Requests((frame) => this.#link.send(frame));
  #turns;
  #conversations = new Map();
  #credential;
  #renewedAt = null;
  #attachments = new Attachments(
    (type, fields) => this.request(type, fields),
    (turn, error) => this.#turns.fail(turn, error),
    () => (this.state.state === "live" ? this.#link.traffic.sockets : null),
    (id) => this.#turns.get(id),
  );
  #pingTimer = 0;

  constructor({ url, codec = "json", token, ticket, wire = null, socket, storage }) {
    super();
    this.#credential = token ?? ticket; // an `auth` frame takes the one as the other
    this.#turns = new FollowedTurns(new LiveTurns(url, storage), this.#attachments, {
      cancel: (turn, reason) => this.cancel([turn], reason),
      detach: (turn) => void this.request("turn.detach", { turn: turn.id }).catch(() => {}),
      conversation: (id) => this.#conversations.get(id),
      tell: (type, detail) => this.#tell(type, detail),
    });
    this.#link = new Link({
      url,
      codec,
      token,
      ticket,
      socket,
      onFrame: (frame, at) => this.#take(frame, at),
      onExpiring: (expires_at) => void this.#renew(expires_at),
      onWake: this.#pingQuietly,
      onState: (state) => this.#moved(state),
    });
    this.#link.wire = wire;
  }

  get state() {
    return this.#link?.state ?? { state: "connecting" };
  }

  get codec() {
    return this.#link.codec;
  }

  get traffic() {
    return this.#link.traffic;
  }

  get wire() {
    return this.#link.wire;
  }

  set wire(observer) {
    this.#link.wire = observer;
  }

  /** The turns that have not ended, oldest first. */
  get running() {
    return this.#turns.running;
  }

  request = (type, fields = {}) => {
    if (this.state.state === "closed") return Promise.reject(closed(this.state.reason));
    return this.#requests.ask(type, fields);
  };

  start({ signal, ...fields } = {}) {
    const id = fields.turn ?? randomId();
    const known = this.#turns.get(id);
    if (known) return known; // started once (law 6)
    const turn = this.#turns.make(id);
    if (signal?.aborted) {
      turn.withdraw();
      return turn;
    }
    this.#turns.keep(turn);
    if (signal) stopOnAbort(turn, signal);
    this.request("turn.start", { ...fields, turn: id }).then(
      (result) => turn.answer(result),
      (error) => this.#turns.fail(turn, error),
    );
    return turn;
  }

  follow(id) {
    const known = this.#turns.get(id);
    if (known) return known;
    const turn = this.#turns.make(id);
    this.#turns.keep(turn);
    this.#attachments.attach([turn]);
    return turn;
  }

  recall() {
    return this.#turns.recall().map((id) => this.follow(id));
  }

  async cancel(turns, reason) {
    const ids = turns.filter((turn) => !turn.ended && !this.#withdrawn(turn)).map((turn) => turn.id);
    if (ids.length === 0) return {};
    const why = reason === undefined ? undefined : String(reason).slice(0, REASON_CHARS_MAX) || undefined;
    const answer = await this.request("turn.cancel", { turns: ids, reason: why });
    for (const id of ids) {
      // A start that is still under way gets its own answer; anything else that is not found is no more.
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
        turnsIn: (of) => this.running.filter((turn) => turn.conversation === of),
        attach: (it) => this.#attachments.attachConversation(it),
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

  conversations({ query, limit } = {}) {
    return conversationPages(this.request, { query, limit });
  }

  getTurn(id) {
    return this.request("turn.get", { turn: id });
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

  /** The round trip in ms. */
  async ping() {
    const sentAt = performance.now();
    await this.request("ping");
    const roundtrip = performance.now() - sentAt;
    this.#tell("roundtrip", roundtrip);
    return roundtrip;
  }

  retryNow() {
    this.#link.retryNow();
  }

  switchCodec(name) {
    this.#link.switchCodec(name);
  }

  drop() {
    this.#link.drop();
  }

  offline() {
    this.#link.offline();
  }

  online() {
    this.#link.online();
  }

  pauseReading(ms) {
    return this.#link.pauseReading(ms);
  }

  close() {
    this.#link.close();
  }

  /** Takes back a start that was never sent. */
  #withdrawn(turn) {
    if (!this.#requests.withdrawStart(turn.id)) return false;
    this.#turns.withdraw(turn);
    return true;
  }

  #moved(state) {
    clearInterval(this.#pingTimer);
    if (state.state === "live") this.#resume();
    else if (state.state === "waiting") this.#interrupted();
    else if (state.state === "closed") this.#over(state.reason);
    this.#tell("state", state);
  }

  #resume() {
    this.#attachments.begin();
    this.#requests.resume();
    for (const conversation of this.#conversations.values()) this.#attachments.attachConversation(conversation);
    // Those that a conversation brought along are left out when their time comes.
    this.#attachments.attach(this.running.filter((turn) => !this.#requests.isStarting(turn.id)));
    this.#pingQuietly();
    this.#pingTimer = setInterval(this.#pingQuietly, PING_EVERY_MS);
  }

  /** Where the socket goes away meanwhile, its state says so. */
  #pingQuietly = () => void this.ping().catch(() => {});

  #interrupted() {
    for (const turn of this.running.filter(({ position }) => position.seq > 0)) {
      // Its events came: attaching goes on from the position, a second start would begin at the first event.
      const { id, conversation, status, position } = turn;
      this.#requests.settleStart(id, { turn: id, conversation, status, epoch: position.epoch });
    }
    this.#requests.interrupt();
  }

  #over(reason) {
    this.#requests.close(reason);
    for (const conversation of this.#conversations.values()) conversation.close(reason);
    for (const turn of this.running) this.#turns.fail(turn, closed(reason), { keep: true });
  }

  async #renew(expires_at) {
    // One that was renewed and still ends then can't be made longer: asking again would be answered the same at once.
    if (!this.#credential || expires_at === this.#renewedAt) return;
    this.#renewedAt = expires_at;
    try {
      await this.request("auth", { token: await this.#credential() });
    } catch (cause) {
      console.warn("turnwire: the credential could not be renewed", cause);
    }
  }

  #take(frame, at) {
    if (frame.type === "result" || frame.type === "result.piece" || (frame.type === "error" && frame.id)) this.#requests.take(frame);
    else if (frame.turn !== undefined) this.#turns.take(frame, at);
    else {
      if (frame.conversation !== undefined) this.#conversations.get(frame.conversation)?.take(frame);
      this.#tell("event", frame);
    }
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

function stopOnAbort(turn, signal) {
  const abort = () => void turn.cancel(signal.reason?.message).catch(() => {});
  signal.addEventListener("abort", abort, { once: true });
  const forget = () => signal.removeEventListener("abort", abort);
  turn.done.then(forget, forget);
}

function unknownTurn() {
  return new TurnwireError({ code: "not_found", message: "The gateway doesn't know this turn any more." });
}

/** 128 random bits, without `crypto.randomUUID`, which plain http lacks. */
function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `t_${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
