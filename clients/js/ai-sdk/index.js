/** A transport for the chats of the AI SDK, such as `useChat`, over the one socket of a Turnwire connection. */

import { connect, TurnwireError } from "../dist/turnwire.js";
import { keepAttached } from "../shared/attachment.js";
import { followUnanswered } from "../shared/unanswered.js";
import { UiChunks } from "./chunks.js";
import { ChatHistory, originOf, uiIdOf } from "./history.js";
import { partsOf, resultsOf, systemOf } from "./messages.js";

const MESSAGES_MAX = 1_000;

/**
 * A `ChatTransport`. The id of a chat is that of its conversation, whose history the gateway keeps. The id of an answer is that of
 * its turn.
 */
export class TurnwireChatTransport {
  resumeStreamIsReplay = true;
  #options;
  #connection;
  #ownsConnection;
  #start;
  #cancelOnAbort;
  /** Of each chat: the id of the stored message of each UI message. */
  #storedIds = new Map();
  /** Of each chat: the turn that its messages were read without, because it ran. */
  #pending = new Map();
  /** The chats that are watched, each as often as it is. */
  #watched = [];

  /** @param {import("./index.js").TransportOptions} [options] */
  constructor({ connection, start = {}, cancelOnAbort = true, ...options } = {}) {
    this.#connection = connection ?? null;
    this.#ownsConnection = !connection;
    this.#options = options;
    this.#start = start;
    this.#cancelOnAbort = cancelOnAbort;
  }

  get connection() {
    return (this.#connection ??= connect({ storage: null, ...this.#options }));
  }

  async sendMessages(options) {
    return orAborted(options.abortSignal, () => this.#send(options));
  }

  async reconnectToStream(options) {
    try {
      return await orAborted(options.abortSignal, () => this.#reconnect(options));
    } catch (error) {
      if (options.abortSignal?.aborted) return null;
      throw error;
    }
  }

  async #send({ trigger, chatId, messages, abortSignal, body }) {
    const last = messages.at(-1);
    const isNextStep = trigger === "submit-message" && last?.role === "assistant";
    const fields = { on_busy: isNextStep ? "parallel" : "interrupt", ...(await this.#fields()), ...body };
    const place = isNextStep ? await this.#placeOfResults(chatId, last, fields) : await this.#place(chatId, messages, trigger, fields);
    abortSignal?.throwIfAborted();
    const system = [fields.system, systemOf(messages)].filter(Boolean).join("\n\n") || undefined;
    const signal = this.#cancelOnAbort ? abortSignal : undefined;
    this.#pending.delete(chatId);
    const turn = this.connection.start({ ...fields, ...place, system, conversation: chatId, create: true, signal });
    const messageId = isNextStep ? last.id : turn.id;
    this.#remember(chatId, turn, last?.role === "user" ? last.id : undefined, messageId);
    await turn.accepted;
    this.#attachNew(chatId);
    return this.#stream(new UiChunks(turn, { messageId, absolute: this.#absolute }), turn);
  }

  async #reconnect({ chatId, abortSignal }) {
    const turn = (await this.#running(chatId)).at(-1) ?? this.#pending.get(chatId) ?? null;
    if (turn === null || abortSignal?.aborted) return null;
    const options = { absolute: this.#absolute };
    if (turn.input?.role === "tool") {
      options.messageId = uiIdOf(turn.input);
      options.earlier = (await this.#readHistory(chatId)).earlierChunks(turn.parentId);
    }
    if (abortSignal?.aborted) return null;
    this.#pending.delete(chatId);
    // Before this, an abort means that nobody wants the stream any more, such as when `StrictMode` mounts a chat twice.
    if (this.#cancelOnAbort && abortSignal) cancelOnAbort(turn, abortSignal);
    this.#remember(chatId, turn, uiIdOf(turn.input), options.messageId ?? turn.id);
    return this.#stream(new UiChunks(turn, options), turn);
  }

  async messages(chatId) {
    const turn = (await this.#running(chatId)).findLast(({ ended }) => !ended) ?? null;
    let head;
    try {
      ({ head } = await this.connection.conversation(chatId).get());
    } catch (error) {
      if (error.code === "not_found") return [];
      throw error;
    }
    const history = await this.#readHistory(chatId);
    this.#pending.delete(chatId);
    if (turn === null) return history.uiMessages(head);
    this.#pending.set(chatId, turn);
    return history.uiMessages(turn.parentId);
  }

  stop(chatId, reason) {
    return this.connection.conversation(chatId).cancel(reason);
  }

  watch(chatId, onTurn) {
    const conversation = this.connection.conversation(chatId);
    const listener = ({ detail }) => onTurn(detail);
    conversation.addEventListener("turn", listener);
    this.#watched.push(chatId);
    const { ready, release } = keepAttached(conversation);
    ready.catch(() => {}); // a chat that doesn't exist yet is attached when it is started
    return () => {
      conversation.removeEventListener("turn", listener);
      this.#watched.splice(this.#watched.indexOf(chatId), 1);
      release();
    };
  }

  close() {
    if (!this.#ownsConnection) return;
    this.#connection?.close();
    this.#connection = null;
  }

  async #fields() {
    return typeof this.#start === "function" ? await this.#start() : this.#start;
  }

  /** Returns where an answer belongs, and what it answers: a user's message. */
  async #place(chatId, messages, trigger, { metadata }) {
    const last = messages.at(-1);
    if (last?.role !== "user") throw noMessage();
    if (trigger === "regenerate-message") {
      const parent = await this.#findStored(chatId, [last.id]);
      if (parent) return { parent };
    }
    const input = partsOf(last);
    const earlier = messages.slice(0, -1).filter(({ role }) => role !== "system");
    const parent = await this.#findStored(chatId, earlier.map(({ id }) => id).reverse());
    if (parent) {
      // A tool that the user didn't wait for has its result here. One that has run is followed by a further step.
      const results = earlier.at(-1).role === "assistant" ? resultsOf(earlier.at(-1)) : [];
      input.unshift(...results);
    } else if (!earlier.some(({ role }) => role === "user")) {
      await this.#clear(chatId);
    }
    return { input, parent, metadata: { ...metadata, ...originOf(last.id) } };
  }

  /** Returns where the next step of an answer belongs: after the results of its tools. */
  async #placeOfResults(chatId, message, { metadata }) {
    const input = resultsOf(message);
    const parent = input.length > 0 ? await this.#findStored(chatId, [message.id]) : undefined;
    if (!parent) throw noMessage();
    return { input, parent, metadata: { ...metadata, ...originOf(message.id) } };
  }

  /** Returns the stored id of the first of these UI messages that is stored. */
  async #findStored(chatId, ids) {
    if (ids.length === 0) return undefined;
    const known = this.#idsOf(chatId);
    if (!known.has(ids[0])) {
      await this.#readHistory(chatId, (history) => history.storedIds().has(ids[0]));
    }
    return known.get(ids.find((id) => known.has(id)));
  }

  /** Empties the context, so that what the client shows is all that the model gets. */
  async #clear(chatId) {
    for (;;) {
      try {
        return await this.connection.conversation(chatId).clear();
      } catch (error) {
        if (error.code === "not_found") return undefined;
        if (error.code !== "connection_lost") throw error;
      }
    }
  }

  async #readHistory(chatId, isEnough) {
    const history = new ChatHistory(this.#absolute);
    try {
      await history.read(this.connection.conversation(chatId), { limit: MESSAGES_MAX, isEnough: isEnough && (() => isEnough(history)) });
    } catch (error) {
      if (error.code !== "not_found") throw error;
    }
    const known = this.#idsOf(chatId);
    for (const [id, stored] of history.storedIds()) known.set(id, stored);
    return history;
  }

  #idsOf(chatId) {
    if (!this.#storedIds.has(chatId)) this.#storedIds.set(chatId, new Map());
    return this.#storedIds.get(chatId);
  }

  /** Remembers the stored ids of a turn's messages when it has started. */
  #remember(chatId, turn, inputId, answerId) {
    const onChange = () => {
      if (turn.messageId === null) return;
      const known = this.#idsOf(chatId);
      if (turn.input && inputId !== undefined) known.set(inputId, turn.input.id);
      known.set(answerId, turn.messageId);
      unsubscribe();
    };
    const unsubscribe = turn.subscribe(onChange);
    onChange();
  }

  /** Attaches a watched chat that has just been created. */
  #attachNew(chatId) {
    if (!this.#watched.includes(chatId)) return;
    const { ready, release } = keepAttached(this.connection.conversation(chatId));
    ready.catch(() => {}).finally(release);
  }

  /** Returns the turns that run in a chat, or ran when it was attached, oldest first. Their events arrive until they end. */
  async #running(chatId) {
    const conversation = this.connection.conversation(chatId);
    const { ready, release } = keepAttached(conversation);
    try {
      const [first, current] = [await ready, conversation.turns];
      if (first.length + current.length === 0) {
        const { turn } = await followUnanswered(this.connection, chatId);
        return turn === null ? [] : [turn];
      }
      return (current.length > 0 ? current : first).toSorted((a, b) => startOf(a) - startOf(b));
    } catch (error) {
      if (error.code !== "not_found") throw error;
      return [];
    } finally {
      release();
    }
  }

  /** Returns a stream that is read from the turn as its consumer asks for more. */
  #stream(reader, turn) {
    let wake = () => {};
    const unsubscribe = turn.subscribe(() => wake());
    return new ReadableStream(
      {
        async pull(controller) {
          let chunks = reader.read();
          while (chunks.length === 0 && !reader.done) {
            await new Promise((resolve) => (wake = resolve));
            chunks = reader.read();
          }
          for (const chunk of chunks) controller.enqueue(chunk);
          if (!reader.done) return;
          unsubscribe();
          // Chunks that weren't read are lost with an error, so it waits until they were.
          if (turn.ending.type !== "turn.failed") controller.close();
          else if (chunks.length === 0) controller.error(errorOf(turn));
        },
        cancel() {
          unsubscribe();
          wake();
        },
      },
      { highWaterMark: 0 },
    );
  }

  /** Makes an address of the gateway absolute, if the page may be of another origin. */
  #absolute = (url) => {
    if (!url.startsWith("/") || this.#options.url === undefined) return url;
    const base = new URL(".", this.#options.url);
    base.protocol = base.protocol === "wss:" || base.protocol === "https:" ? "https:" : "http:";
    return new URL(url.slice(1), base).href;
  };
}

/** Does the work, but doesn't wait for it any more when the signal is aborted: without a connection, it may take long. */
async function orAborted(signal, work) {
  if (!signal) return work();
  signal.throwIfAborted();
  let abort;
  const aborted = new Promise((_, reject) => {
    abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
  });
  try {
    return await Promise.race([work(), aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

function cancelOnAbort(turn, signal) {
  const abort = () => void turn.cancel(signal.reason).catch(() => {});
  signal.addEventListener("abort", abort, { once: true });
  const removeListener = () => signal.removeEventListener("abort", abort);
  turn.done.then(removeListener, removeListener);
}

/** Returns the time of a turn's start in ms. The first epoch of a turn is that time, too. */
function startOf({ input, position }) {
  return Date.parse(input?.created_at) || position.epoch;
}

function errorOf({ ending }) {
  return ending.error instanceof Error ? ending.error : new TurnwireError(ending.error);
}

function noMessage() {
  const message = "There is nothing to answer. Send a user's message, or results of the tools that the last answer has called.";
  return new TurnwireError({ code: "invalid_request", message });
}
