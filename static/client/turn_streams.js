/**
 * Streams the events of many turns over HTTP, each by a response of server-sent events.
 *
 * A browser opens at most six connections to a server that speaks HTTP/1.1. Requests need some of them, so only a few turns
 * are streamed at a time. If others wait, a stream is stopped after a second, and its turn waits in turn. It continues from
 * its position, so nothing is lost.
 */

import { serverSentEvents } from "./event_stream_parser.js";
import { Lost } from "./http_requests.js";

const STREAMS_MAX = globalThis.document || globalThis.WorkerGlobalScope ? 4 : 256;
const ROTATE_MS = 1_000;
/** The gateway sends something at least every 15 s. A stream that is silent for longer is opened again. */
const SILENT_MS = 45_000;
const ACCEPTED_MS = 30_000;
const RETRY_BASE_MS = 500;
const RETRY_CAP_MS = 20_000;
/** Why a stream was aborted: it makes room for another, or nothing came. */
const PAUSED = Symbol("paused");

const ENDINGS = new Set(["turn.completed", "turn.cancelled", "turn.failed"]);

export class TurnStreams {
  #requests;
  #deliver;
  #onLost;
  /** The turns whose events arrive or wait for a place, by id. */
  #streams = new Map();
  #waiting = [];
  #open = new Set();
  #rotation = 0;
  #closed = false;

  /**
   * @param {import("./http_requests.js").HttpRequests} requests
   * @param {(frame: string) => void} deliver takes an event as JSON
   * @param {(lost: Lost) => void} onLost the gateway can't be reached
   */
  constructor(requests, deliver, onLost) {
    this.#requests = requests;
    this.#deliver = deliver;
    this.#onLost = onLost;
  }

  /** Starts a turn. Resolves with the result of `turn.start`. @throws {TurnwireError | Lost} */
  async start({ type: _, ...fields }) {
    if (this.#open.size + this.#waiting.length < STREAMS_MAX && fields.turn !== undefined) return this.#add(fields.turn, "", fields);
    const response = await this.#requests.fetch("POST", "turns", fields, { accept: "application/json", prefer: "respond-async" });
    const placed = await response.json();
    // Its result is sent before its events.
    queueMicrotask(() => void this.#add(placed.turn, "").catch(() => {}));
    return placed;
  }

  /** Follows a turn from a position. Resolves with its entry in the result of `turn.attach`. */
  async attach(turn, { epoch = 0, seq = 0 } = {}) {
    try {
      return await this.#add(turn, seq > 0 ? `${epoch}-${seq}` : "");
    } catch (error) {
      if (error instanceof Lost) throw error;
      return { error: error.wire ?? { code: error.code, message: error.message, retryable: error.retryable } };
    }
  }

  /** Stops the events of a turn. */
  detach(turn) {
    const stream = this.#streams.get(turn);
    if (stream) this.#end(stream);
    stream?.abort.abort();
    this.#fill();
  }

  /** Waits until a turn that was cancelled has ended here, so that none of its events follows the answer (law 5). */
  async ended(turn, within_ms) {
    const stream = this.#streams.get(turn);
    if (!stream) return;
    let timer;
    await Promise.race([stream.ended, new Promise((resolve) => (timer = setTimeout(resolve, within_ms)))]);
    clearTimeout(timer);
  }

  /** Opens the streams again that have been silent for too long. Called from time to time. */
  check() {
    for (const stream of this.#open) if (performance.now() - stream.heardAt > SILENT_MS) stream.abort.abort(PAUSED);
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#rotation);
    for (const stream of this.#streams.values()) {
      clearTimeout(stream.timer);
      stream.abort.abort();
    }
    this.#waiting = [];
  }

  /** @param {string} last the id of the last event; empty: from the first @param {object} [start] the fields of a start */
  #add(turn, last, start) {
    this.detach(turn);
    const stream = { turn, last, start, answer: null, abort: new AbortController(), heardAt: 0, openedAt: 0, failures: 0, timer: 0 };
    stream.ended = new Promise((resolve) => (stream.end = resolve));
    this.#streams.set(turn, stream);
    const answered = new Promise((resolve, reject) => (stream.answer = { resolve, reject }));
    this.#wait(stream);
    return answered;
  }

  #wait(stream) {
    this.#waiting.push(stream);
    this.#fill();
  }

  /** Opens streams of waiting turns while there is a place. */
  #fill() {
    while (!this.#closed && this.#waiting.length > 0 && this.#open.size < STREAMS_MAX) void this.#run(this.#waiting.shift());
    if (this.#waiting.length === 0 || this.#rotation) return;
    this.#rotation = setTimeout(() => {
      this.#rotation = 0;
      const due = performance.now() - ROTATE_MS;
      const old = [...this.#open].filter(({ openedAt }) => openedAt > 0 && openedAt <= due).slice(0, this.#waiting.length);
      for (const stream of old) stream.abort.abort(PAUSED);
      this.#fill();
    }, ROTATE_MS);
  }

  async #run(stream) {
    this.#open.add(stream);
    stream.heardAt = performance.now();
    try {
      const response = await this.#request(stream);
      stream.openedAt = stream.heardAt = performance.now();
      if (response.status === 204) this.#end(stream); // the position is that of the ending
      else await this.#read(stream, response);
      this.#finish(stream);
    } catch (error) {
      this.#finish(stream, error);
    }
    this.#fill();
  }

  /** Opens the response. A start whose answer was lost is a start again: its id makes that safe. */
  async #request({ abort, last, start, turn }) {
    const timer = setTimeout(() => abort.abort(), ACCEPTED_MS);
    const headers = { accept: "text/event-stream", ...(last && { "last-event-id": last }) };
    try {
      if (start) return await this.#requests.fetch("POST", "turns", start, headers, abort.signal);
      return await this.#requests.fetch("GET", `turns/${encodeURIComponent(turn)}/events`, {}, headers, abort.signal);
    } finally {
      clearTimeout(timer);
    }
  }

  async #read(stream, response) {
    if (!stream.start) this.#answer(stream, { conversation: null, status: "running", epoch: Number(stream.last.split("-")[0]), from: Number(stream.last.split("-")[1] ?? 0) });
    for await (const { id, type, data, comment } of serverSentEvents(response.body)) {
      if (stream.abort.signal.aborted) return;
      stream.heardAt = performance.now();
      if (comment !== undefined) {
        if (comment.startsWith('{"type":"going_away"') || comment.startsWith('{"type":"durability"')) this.#deliver(comment);
        continue;
      }
      if (stream.start) this.#answer(stream, accepted(stream.turn, type, data, id));
      stream.start = undefined;
      stream.failures = 0;
      stream.last = id ?? stream.last;
      if (ENDINGS.has(type)) this.#remove(stream);
      this.#deliver(data);
      if (ENDINGS.has(type)) this.#end(stream);
    }
  }

  #answer(stream, result) {
    stream.answer?.resolve(result);
    stream.answer = null;
  }

  /** Handles the end of a response: the turn has ended, or waits for the next response, or can't be followed. */
  #finish(stream, error) {
    this.#open.delete(stream);
    if (this.#closed || this.#streams.get(stream.turn) !== stream) return;
    const isPaused = stream.abort.signal.reason === PAUSED;
    if (error && !isPaused && !isCut(stream, error)) {
      this.#remove(stream);
      if (error instanceof Lost) this.#onLost(error);
      else if (stream.answer) stream.answer.reject(error);
      else this.#deliver(JSON.stringify({ type: "turn.detached", turn: stream.turn, reason: "gone" })); // attaching again says why
      return;
    }
    if (!isPaused) stream.failures++;
    Object.assign(stream, { abort: new AbortController(), openedAt: 0 });
    const delay_ms = stream.failures > 1 ? Math.random() * Math.min(RETRY_CAP_MS, RETRY_BASE_MS * 2 ** stream.failures) : 0;
    if (delay_ms === 0) this.#wait(stream);
    else stream.timer = setTimeout(() => this.#wait(stream), delay_ms);
  }

  #end(stream) {
    this.#remove(stream);
    stream.end();
  }

  #remove(stream) {
    clearTimeout(stream.timer);
    if (this.#streams.get(stream.turn) === stream) this.#streams.delete(stream.turn);
    this.#waiting = this.#waiting.filter((other) => other !== stream);
  }
}

/** Returns whether a response broke off after it had begun, as a proxy or a gateway that restarts does. */
function isCut(stream, error) {
  return stream.openedAt > 0 && !(error instanceof Lost) && error.code === undefined;
}

/** Returns the result of `turn.start` for a stream whose first event is this one. */
function accepted(turn, type, data, id) {
  if (type !== "turn.started") return { turn, conversation: null, status: "attached", epoch: Number(id.split("-")[0]) };
  const { conversation, status, epoch } = JSON.parse(data);
  return { turn, conversation, status, epoch };
}
