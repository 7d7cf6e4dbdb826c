/**
 * Checks that no character was lost or duplicated. When a turn ends here, its message is compared with the message
 * stored by the gateway and, if the text was known in advance, with that text. A turn that can't be compared never
 * passes.
 */

/** Waits between reads of the stored message, in ms, while it is missing or the gateway calls the turn running. */
const RETRY_WAITS_MS = [150, 400, 1_000, 2_500];
const RECORDS_MAX = 2_000;
const FINAL_STATES = new Set(["passed", "failed", "skipped", "unverified"]);

/**
 * One turn's result.
 * @typedef {object} CheckRecord
 * @property {string} id of the turn
 * @property {"running" | "checking" | "passed" | "failed" | "skipped" | "unverified"} state `skipped`: the turn never
 *   started; `unverified`: it can't be compared
 * @property {number} characters
 * @property {number} lost characters
 * @property {number} duplicated characters
 * @property {string | null} failure the reason, to be shown to the user
 * @property {import("../turnwire.js").Ending | null} ending
 */

/** Dispatches `change` when a record or `violations` changed, and `checked` with the record of a checked turn. */
export class IntegrityCheck extends EventTarget {
  /** @type {string[]} messages of the law violations that the client detected */
  violations = [];
  #connection;
  /** @type {Map<string, CheckRecord>} */
  #records = new Map();
  #expectedTexts = new Map();

  /** @param {import("../turnwire.js").Connection} connection */
  constructor(connection) {
    super();
    this.#connection = connection;
    connection.addEventListener("violation", ({ detail }) => {
      this.violations.push(detail.message);
      this.#emitChange();
    });
    for (const turn of connection.running) this.track(turn);
  }

  /** Sets the expected text of a turn. A turn that doesn't complete must have the beginning of it. */
  setExpectedText(id, text) {
    this.#expectedTexts.set(id, text);
  }

  /** Checks a turn when it ends. @param {import("../turnwire.js").Turn} turn */
  track(turn) {
    if (this.#records.has(turn.id)) return;
    const record = { id: turn.id, state: "running", characters: 0, lost: 0, duplicated: 0, failure: null, ending: null };
    record.result = new Promise((resolve) => (record.resolve = resolve));
    this.#records.set(turn.id, record);
    if (this.#records.size > RECORDS_MAX) this.#deleteOldest();
    const check = () => void this.#check(turn, record);
    turn.done.then(check, check);
    this.#emitChange();
  }

  /** Returns the records of turns once each of them is checked. @param {string[]} ids */
  results(ids) {
    return Promise.all(ids.map((id) => this.#records.get(id)?.result));
  }

  /** Deletes the records of checked turns, and all violations. */
  clear() {
    this.violations = [];
    for (const [id, { state }] of this.#records) if (FINAL_STATES.has(state)) this.#records.delete(id);
    this.#emitChange();
  }

  /** Returns the totals. `state` is `passed` only if every turn that started has passed. */
  get summary() {
    const summary = { turns: 0, characters: 0, lost: 0, duplicated: 0, running: 0, skipped: 0, unverified: [], failed: [], state: "idle" };
    for (const record of this.#records.values()) {
      if (record.state === "running" || record.state === "checking") summary.running++;
      else if (record.state === "skipped") summary.skipped++;
      else if (record.state === "unverified") summary.unverified.push(record);
      else {
        summary.turns++;
        for (const name of ["characters", "lost", "duplicated"]) summary[name] += record[name];
        if (record.state === "failed") summary.failed.push(record);
      }
    }
    if (summary.failed.length > 0 || this.violations.length > 0) summary.state = "failed";
    else if (summary.unverified.length > 0) summary.state = "unverified";
    else if (summary.running > 0) summary.state = "running";
    else if (summary.turns > 0) summary.state = "passed";
    return summary;
  }

  async #check(turn, record) {
    record.state = "checking";
    record.ending = turn.ending;
    this.#emitChange();
    const expectedText = this.#expectedTexts.get(turn.id);
    this.#expectedTexts.delete(turn.id);
    try {
      Object.assign(record, await this.#compareWithStored(turn, expectedText));
    } catch (error) {
      Object.assign(record, { state: "unverified", failure: `Failed to read the stored message: ${error.message}` });
    }
    record.resolve(record);
    delete record.resolve;
    this.#emitChange();
    this.dispatchEvent(new CustomEvent("checked", { detail: record }));
  }

  async #compareWithStored(turn, expectedText) {
    if (turn.ending.local && turn.position.seq === 0) {
      return { state: "skipped", failure: turn.ending.error?.message ?? "Withdrawn before it was sent." };
    }
    const stored = await this.#readStored(turn);
    if (!stored.message) return { state: "unverified", failure: "The gateway has no stored message for this turn." };
    const result = compareParts(turn.parts, stored.message.parts);
    if (turn.ending.error?.code === "law_violation") result.failure ??= turn.ending.error.message;
    if (!turn.ending.local && turn.ending.type !== `turn.${stored.status}`) result.failure ??= `The turn is ${turn.status} here, but ${stored.status} on the gateway.`;
    if (expectedText !== undefined && !result.failure) Object.assign(result, compareWithExpected(turn, expectedText));
    return { ...result, state: result.failure ? "failed" : "passed" };
  }

  async #readStored(turn) {
    for (const wait_ms of RETRY_WAITS_MS) {
      const stored = await this.#connection.getTurn(turn.id);
      if (stored.message && (stored.status !== "running" || turn.ending.local)) return stored;
      await new Promise((resolve) => setTimeout(resolve, wait_ms));
    }
    return this.#connection.getTurn(turn.id);
  }

  #deleteOldest() {
    const [oldest] = this.#records.keys();
    this.#records.delete(oldest);
  }

  #emitChange() {
    this.dispatchEvent(new Event("change"));
  }
}

/**
 * Compares the parts of a message as received with the parts as stored.
 * @returns {{characters: number, lost: number, duplicated: number, failure: string | null}}
 */
function compareParts(received, stored) {
  const result = { characters: 0, lost: 0, duplicated: 0, failure: null };
  for (let index = 0; index < Math.max(received.length, stored.length); index++) {
    const [here, there] = [received[index], stored[index]];
    const { lost, duplicated, at } = difference(textOfPart(here), textOfPart(there));
    result.characters += textOfPart(here).length;
    result.lost += lost;
    result.duplicated += duplicated;
    if (lost + duplicated > 0) result.failure ??= `Part ${index} differs from the stored part at character ${at}: ${lost} lost, ${duplicated} duplicated.`;
    else if (here?.kind !== there?.kind) result.failure ??= `Part ${index} is ${here?.kind ?? "missing"} here, but ${there?.kind ?? "missing"} on the gateway.`;
  }
  return result;
}

/** Compares a turn's text with the text that was requested from the demo model. Returns an empty object if they are equal. */
function compareWithExpected(turn, expectedText) {
  const isComplete = turn.status === "completed" && turn.ending.finish_reason !== "length";
  const { lost, duplicated, at } = difference(turn.text, isComplete ? expectedText : expectedText.slice(0, turn.text.length));
  return lost + duplicated === 0 ? {} : { lost, duplicated, failure: `The text differs from the requested text at character ${at}: ${lost} lost, ${duplicated} duplicated.` };
}

/** Returns how many characters `actual` lost and duplicated compared with `expected`, and where the difference starts. */
function difference(actual, expected) {
  const shorter = Math.min(actual.length, expected.length);
  let at = 0;
  while (at < shorter && actual[at] === expected[at]) at++;
  let end = 0;
  while (end < shorter - at && actual[actual.length - 1 - end] === expected[expected.length - 1 - end]) end++;
  return { lost: expected.length - at - end, duplicated: actual.length - at - end, at };
}

/** Returns the text of a part of any kind. */
function textOfPart(part) {
  return part?.text ?? part?.arguments ?? part?.output ?? "";
}
