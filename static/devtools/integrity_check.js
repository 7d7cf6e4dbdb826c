/**
 * The proof that no character was lost or doubled. Each turn that ends here is compared with the message as the gateway
 * stored it, read anew, and, where it is known what had to come, with that. What can't be compared is never called whole.
 */

/** A message may be stored a moment after its ending was said. */
const ASK_AGAIN_MS = [150, 400, 1_000, 2_500];
const RECORDS_MAX = 2_000;

export const FINAL = new Set(["whole", "broken", "refused", "unproven"]);

/** Events: `change` (a record changed, or the laws were broken). */
export class Proof extends EventTarget {
  /** @type {{turn: string, message: string}[]} what the client's own check of the laws told */
  violations = [];
  #connection;
  #records = new Map();
  #expected = new Map();

  /** @param {import("../turnwire.js").Connection} connection */
  constructor(connection) {
    super();
    this.#connection = connection;
    connection.addEventListener("violation", ({ detail }) => {
      this.violations.push(detail.message);
      this.#changed();
    });
    for (const turn of connection.running) this.follow(turn);
  }

  /** Says beforehand what a turn's text must be: all of it when it completes, else its beginning. */
  expect(id, text) {
    this.#expected.set(id, text);
  }

  /** Proves this turn when it has ended. @param {import("../turnwire.js").Turn} turn */
  follow(turn) {
    if (this.#records.has(turn.id)) return;
    const record = { id: turn.id, state: "running", characters: 0, lost: 0, doubled: 0, failure: null, ended: null };
    record.settled = new Promise((resolve) => (record.settle = resolve));
    this.#records.set(turn.id, record);
    if (this.#records.size > RECORDS_MAX) this.#forgetOldest();
    const prove = () => void this.#prove(turn, record);
    turn.done.then(prove, prove);
    this.#changed();
  }

  /** The records of these turns once each of them is proven or refuted. */
  settled(ids) {
    return Promise.all(ids.map((id) => this.#records.get(id)?.settled));
  }

  /** Starts the count anew; what still runs stays. */
  clear() {
    this.violations = [];
    for (const [id, { state }] of this.#records) if (FINAL.has(state)) this.#records.delete(id);
    this.#changed();
  }

  /** The sum of it all. `state` is whole only if every single turn is. */
  get sum() {
    const sum = { turns: 0, characters: 0, lost: 0, doubled: 0, running: 0, refused: 0, unproven: [], broken: [], state: "idle" };
    for (const record of this.#records.values()) {
      if (record.state === "running" || record.state === "checking") sum.running++;
      else if (record.state === "refused") sum.refused++;
      else if (record.state === "unproven") sum.unproven.push(record);
      else {
        sum.turns++;
        for (const name of ["characters", "lost", "doubled"]) sum[name] += record[name];
        if (record.state === "broken") sum.broken.push(record);
      }
    }
    if (sum.broken.length > 0 || this.violations.length > 0) sum.state = "broken";
    else if (sum.unproven.length > 0) sum.state = "unproven";
    else if (sum.running > 0) sum.state = "running";
    else if (sum.turns > 0) sum.state = "whole";
    return sum;
  }

  async #prove(turn, record) {
    record.state = "checking";
    record.ended = turn.ending;
    this.#changed();
    const expected = this.#expected.get(turn.id);
    this.#expected.delete(turn.id);
    try {
      Object.assign(record, await this.#judge(turn, expected));
    } catch (error) {
      Object.assign(record, { state: "unproven", failure: `The stored message can't be read: ${error.message}` });
    }
    record.settle(record);
    delete record.settle;
    this.#changed();
    this.dispatchEvent(new CustomEvent("judged", { detail: record }));
  }

  async #judge(turn, expected) {
    if (turn.ending.local && turn.position.seq === 0) {
      return { state: "refused", failure: turn.ending.error?.message ?? "Taken back before it was sent." };
    }
    const stored = await this.#stored(turn);
    if (!stored.message) return { state: "unproven", failure: "The gateway has no stored message for it." };
    const verdict = compare(turn.parts, stored.message.parts);
    if (turn.ending.error?.code === "law_violation") verdict.failure ??= turn.ending.error.message;
    if (!turn.ending.local && turn.ending.type !== `turn.${stored.status}`) verdict.failure ??= `It ended ${turn.status} here, and ${stored.status} at the gateway.`;
    if (expected !== undefined && !verdict.failure) Object.assign(verdict, against(expected, turn));
    return { ...verdict, state: verdict.failure ? "broken" : "whole" };
  }

  async #stored(turn) {
    for (const wait_ms of ASK_AGAIN_MS) {
      const stored = await this.#connection.getTurn(turn.id);
      if (stored.message && (stored.status !== "running" || turn.ending.local)) return stored;
      await new Promise((resolve) => setTimeout(resolve, wait_ms));
    }
    return this.#connection.getTurn(turn.id);
  }

  #forgetOldest() {
    const [oldest] = this.#records.keys();
    this.#records.delete(oldest);
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/**
 * Compares the parts of a message as they were held and as they were stored.
 * @returns {{characters: number, lost: number, doubled: number, failure: string | null}}
 */
export function compare(held, stored) {
  const verdict = { characters: 0, lost: 0, doubled: 0, failure: null };
  for (let index = 0; index < Math.max(held.length, stored.length); index++) {
    const [here, there] = [held[index], stored[index]];
    const { lost, doubled, at } = difference(wordsOf(here), wordsOf(there));
    verdict.characters += wordsOf(here).length;
    verdict.lost += lost;
    verdict.doubled += doubled;
    if (lost + doubled > 0) verdict.failure ??= `Part ${index} differs from the stored one at character ${at}: ${lost} lost, ${doubled} too many.`;
    else if (here?.kind !== there?.kind) verdict.failure ??= `Part ${index} is ${here?.kind ?? "missing"} here, and ${there?.kind ?? "missing"} where it is stored.`;
  }
  return verdict;
}

/** Whether the text is what had to come, which its sender knew before. */
function against(expected, turn) {
  const whole = turn.status === "completed" && turn.ending.finish_reason !== "length";
  const { lost, doubled, at } = difference(turn.text, whole ? expected : expected.slice(0, turn.text.length));
  return lost + doubled === 0 ? {} : { lost, doubled, failure: `Not what was asked for, from character ${at} on: ${lost} lost, ${doubled} too many.` };
}

/** How many characters of `there` are missing in `here`, and how many of `here` are too many; and where it begins. */
export function difference(here, there) {
  const shorter = Math.min(here.length, there.length);
  let at = 0;
  while (at < shorter && here[at] === there[at]) at++;
  let end = 0;
  while (end < shorter - at && here[here.length - 1 - end] === there[there.length - 1 - end]) end++;
  return { lost: there.length - at - end, doubled: here.length - at - end, at };
}

/** What a part says, whichever kind it is. */
function wordsOf(part) {
  return part?.text ?? part?.arguments ?? part?.output ?? "";
}
