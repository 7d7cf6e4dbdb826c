/** Stores recent frames, up to a limit, and filters them. Has no DOM. */

const FRAMES_MAX = 5_000;
const TRIM_COUNT = 500;
const TURNS_MAX = 100;
const PENDING_REQUESTS_MAX = 500;
const SUMMARY_CHARS_MAX = 160;

/** The fields that summarize a frame. The first one that is present is shown. */
const SUMMARY_FIELDS = ["text", "status", "finish_reason", "reason", "kind", "model", "error", "title", "state", "result", "input"];

export class WireLog {
  shown = [];
  types = new Set();
  turns = new Set();
  /** The number of frames that were added since the list was paused. */
  newWhilePaused = 0;
  #records = [];
  #lastNumber = 0;
  /** The types of the requests that have no answer yet, by socket and request id. */
  #pendingRequests = new Map();
  #filter = { direction: "", type: "", turn: "", text: "" };
  /** The number of the last record that is shown while the list is paused. */
  #pausedAt = Infinity;

  get size() {
    return this.#records.length;
  }

  get paused() {
    return this.#pausedAt < Infinity;
  }

  /** Pauses the list, or resumes it and shows the frames that arrived in between. */
  set paused(paused) {
    this.#pausedAt = paused ? this.#lastNumber : Infinity;
    this.newWhilePaused = 0;
    if (!paused) this.#applyFilter();
  }

  /** Adds a frame. @param {import("../turnwire.js").WireEntry} entry */
  add(entry) {
    this.types.add(entry.frame.type);
    const { turn } = entry.frame;
    if (turn !== undefined && !this.turns.has(turn)) {
      this.turns.add(turn);
      if (this.turns.size > TURNS_MAX) this.turns.delete(this.turns.values().next().value);
    }
    this.#addRecord({ ...entry, number: ++this.#lastNumber, requestType: this.#requestType(entry) });
  }

  /** Records that a number of frames were not observed. @param {number} frames */
  addGap(frames) {
    if (frames > 0) this.#addRecord({ gap: frames, number: ++this.#lastNumber });
  }

  /**
   * Sets filters; an empty value removes one.
   * @param {Partial<{direction: string, type: string, turn: string, text: string}>} changes
   */
  setFilter(changes) {
    Object.assign(this.#filter, changes);
    this.#applyFilter();
  }

  clear() {
    this.#records = [];
    this.newWhilePaused = 0;
    this.types.clear();
    this.turns.clear();
    this.#applyFilter();
  }

  /** Returns the shown frames as JSON, one per line. */
  toJsonLines() {
    return this.shown.filter((record) => !record.gap).map(toJsonLine).join("\n");
  }

  /** Returns the type of the request that a frame answers, or undefined. */
  #requestType({ direction, socket, frame: { type, id } }) {
    if (id === undefined) return undefined;
    const key = `${socket} ${id}`;
    if (direction === "out") {
      this.#pendingRequests.set(key, type);
      if (this.#pendingRequests.size > PENDING_REQUESTS_MAX) this.#pendingRequests.delete(this.#pendingRequests.keys().next().value);
      return undefined;
    }
    const requestType = this.#pendingRequests.get(key);
    if (type !== "result.piece") this.#pendingRequests.delete(key);
    return requestType;
  }

  #addRecord(record) {
    this.#records.push(record);
    if (this.#records.length > FRAMES_MAX + TRIM_COUNT) this.#records.splice(0, TRIM_COUNT);
    if (this.paused) {
      this.newWhilePaused++;
      return;
    }
    if (!this.#matches(record)) return;
    this.shown.push(record);
    const oldest = this.#records[0].number;
    if (this.shown[0].number < oldest - TRIM_COUNT) this.shown.splice(0, this.shown.findIndex(({ number }) => number >= oldest));
  }

  #applyFilter() {
    this.shown = this.#records.filter((record) => record.number <= this.#pausedAt && this.#matches(record));
  }

  #matches(record) {
    const { direction, type, turn, text } = this.#filter;
    if (record.gap) return !direction && !type && !turn && !text;
    if (direction && record.direction !== direction) return false;
    if (type && record.frame.type !== type) return false;
    if (turn && record.frame.turn !== turn && !record.frame.turns?.includes?.(turn)) return false;
    return !text || JSON.stringify(record.frame).toLowerCase().includes(text.toLowerCase());
  }
}

/** Returns a record as one line of JSON. */
export function toJsonLine({ direction, at, bytes, codec, socket, frame }) {
  return JSON.stringify({ at: Math.round(at * 10) / 10, direction, bytes, codec, socket, frame });
}

/** Summarizes a frame in a few words. */
export function summarize({ frame, requestType }) {
  const summary = summarizeFields(frame);
  return requestType ? `${requestType} ${summary}` : summary;
}

function summarizeFields(frame) {
  for (const name of SUMMARY_FIELDS) {
    const value = frame[name];
    if (value === undefined || value === null) continue;
    const text = name === "error" ? `${value.code}: ${value.message}` : typeof value === "string" ? value : JSON.stringify(value);
    return text.slice(0, SUMMARY_CHARS_MAX).replaceAll("\n", "↵");
  }
  return "";
}
