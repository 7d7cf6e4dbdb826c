/** The frames that were seen, bounded, and which of them a filter shows. Knows no DOM. */

const FRAMES_MAX = 5_000;
const TRIM_AT_ONCE = 500;
const TURNS_MAX = 100;
const ASKED_MAX = 500;
const SUMMARY_CHARS_MAX = 160;

/** What a row says of a frame, by what it is mostly about. */
const TOLD = ["text", "status", "finish_reason", "reason", "kind", "model", "error", "title", "state", "result", "input"];

export class WireLog {
  shown = [];
  types = new Set();
  turns = new Set();
  /** Frames that came while the list stood still. */
  waiting = 0;
  #records = [];
  #number = 0;
  /** What was asked under the ids that have no answer yet. */
  #asked = new Map();
  #filter = { direction: "", type: "", turn: "", text: "" };
  /** The last number that is shown while the list stands still. */
  #upTo = Infinity;

  get size() {
    return this.#records.length;
  }

  get paused() {
    return this.#upTo < Infinity;
  }

  /** Stands still, or goes on with what came meanwhile. */
  set paused(paused) {
    this.#upTo = paused ? this.#number : Infinity;
    this.waiting = 0;
    if (!paused) this.#choose();
  }

  /** @param {import("../turnwire.js").WireEntry} entry */
  take(entry) {
    this.types.add(entry.frame.type);
    const { turn } = entry.frame;
    if (turn !== undefined && !this.turns.has(turn)) {
      this.turns.add(turn);
      if (this.turns.size > TURNS_MAX) this.turns.delete(this.turns.values().next().value);
    }
    this.#add({ ...entry, number: ++this.#number, answers: this.#answered(entry) });
  }

  /** Notes that frames passed unseen. */
  gap(frames) {
    if (frames > 0) this.#add({ gap: frames, number: ++this.#number });
  }

  /** @param {Partial<{direction: string, type: string, turn: string, text: string}>} wanted */
  filter(wanted) {
    Object.assign(this.#filter, wanted);
    this.#choose();
  }

  clear() {
    this.#records = [];
    this.waiting = 0;
    this.types.clear();
    this.turns.clear();
    this.#choose();
  }

  /** What is shown, a JSON document a line. */
  lines() {
    return this.shown.filter((record) => !record.gap).map(lineOf).join("\n");
  }

  /** The type of the request that this frame answers. */
  #answered({ direction, socket, frame: { type, id } }) {
    if (id === undefined) return undefined;
    const key = `${socket} ${id}`;
    if (direction === "out") {
      this.#asked.set(key, type);
      if (this.#asked.size > ASKED_MAX) this.#asked.delete(this.#asked.keys().next().value);
      return undefined;
    }
    const asked = this.#asked.get(key);
    if (type !== "result.piece") this.#asked.delete(key);
    return asked;
  }

  #add(record) {
    this.#records.push(record);
    if (this.#records.length > FRAMES_MAX + TRIM_AT_ONCE) this.#records.splice(0, TRIM_AT_ONCE);
    if (this.paused) {
      this.waiting++;
      return;
    }
    if (!this.#fits(record)) return;
    this.shown.push(record);
    const oldest = this.#records[0].number;
    if (this.shown[0].number < oldest - TRIM_AT_ONCE) this.shown.splice(0, this.shown.findIndex(({ number }) => number >= oldest));
  }

  #choose() {
    this.shown = this.#records.filter((record) => record.number <= this.#upTo && this.#fits(record));
  }

  #fits(record) {
    const { direction, type, turn, text } = this.#filter;
    if (record.gap) return !direction && !type && !turn && !text;
    if (direction && record.direction !== direction) return false;
    if (type && record.frame.type !== type) return false;
    if (turn && record.frame.turn !== turn && !record.frame.turns?.includes?.(turn)) return false;
    return !text || JSON.stringify(record.frame).toLowerCase().includes(text.toLowerCase());
  }
}

export function lineOf({ direction, at, bytes, codec, socket, frame }) {
  return JSON.stringify({ at: Math.round(at * 10) / 10, direction, bytes, codec, socket, frame });
}

/** A frame in a few words. */
export function summaryOf({ frame, answers }) {
  const told = toldBy(frame);
  return answers ? `${answers} ${told}` : told;
}

function toldBy(frame) {
  for (const name of TOLD) {
    const value = frame[name];
    if (value === undefined || value === null) continue;
    const words = name === "error" ? `${value.code}: ${value.message}` : typeof value === "string" ? value : JSON.stringify(value);
    return words.slice(0, SUMMARY_CHARS_MAX).replaceAll("\n", "↵");
  }
  return "";
}
