/** The cases of the client's tests, the same in Node and in a browser, and what they need: a stage, and few words to judge. */

import { connect } from "../../static/turnwire.js";

export const CODECS = ["json", "msgpack"];
export const cases = [];

/** @param {string} name @param {(stage: Stage) => Promise<void>} run */
export function test(name, run) {
  cases.push({ name, run });
}

/** Runs a case on a stage of its own; gives null, or what went wrong. */
export async function outcome({ run }, url, timeout_ms = 90_000) {
  const stage = new Stage(url);
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`no end in ${timeout_ms} ms`)), timeout_ms)));
  try {
    await Promise.race([run(stage), late]);
    return null;
  } catch (error) {
    return error?.stack ?? String(error);
  } finally {
    clearTimeout(timer);
    stage.leave();
  }
}

/** Gateways, ways and scripts of tests/client_stage.py, and the connections of a case. */
class Stage {
  static #shared;
  #url;
  #connections = [];

  constructor(url) {
    this.#url = url;
  }

  /** The gateway that cases share which do it no harm. */
  shared() {
    Stage.#shared ??= this.gateway();
    return Stage.#shared;
  }

  gateway({ settings = {}, redis = false, folder = null } = {}) {
    return this.#ask("gateway", { settings, redis, folder });
  }

  stop({ name }, { kill = false } = {}) {
    return this.#ask("stop", { name, kill });
  }

  way({ name }) {
    return this.#ask("way", { gateway: name });
  }

  turnWay({ name }, gateway) {
    return this.#ask("turn_way", { name, gateway: gateway.name });
  }

  cut({ name }, cuts = []) {
    return this.#ask("cut", { name, cuts });
  }

  scripted(...openings) {
    return this.#ask("scripted", { openings });
  }

  seen({ name }) {
    return this.#ask("seen", { name });
  }

  /** A connection that is closed at the end of the case. A law that is broken where none should be fails the case later. */
  connect({ url }, options = {}) {
    const connection = connect({ url, storage: null, ...options });
    connection.violations = [];
    connection.addEventListener("violation", ({ detail }) => connection.violations.push(detail));
    this.#connections.push(connection);
    return connection;
  }

  leave() {
    for (const connection of this.#connections) connection.close();
  }

  async #ask(what, fields) {
    const answer = await fetch(`${this.#url}/stage/${what}`, { method: "POST", body: JSON.stringify(fields) });
    if (!answer.ok) throw new Error(`stage: ${what}: ${answer.status}`);
    return answer.json();
  }
}

export function ok(truth, what) {
  if (!truth) throw new Error(`Not so: ${what}`);
}

export function equal(actual, expected, what = "it") {
  const [a, e] = [shown(actual), shown(expected)];
  if (a !== e) throw new Error(`${what} is ${a.slice(0, 2000)}, and not ${e.slice(0, 2000)}`);
}

/** The error of a promise that has to reject, by its code. */
export async function refused(promise, code) {
  let result;
  try {
    result = await promise;
  } catch (error) {
    equal(error.code, code, `the code of "${error.message}"`);
    return error;
  }
  throw new Error(`resolved with ${shown(result)} instead of ${code}`);
}

/** Waits until something holds. */
export async function until(holds, what, timeout_ms = 30_000) {
  const deadline = performance.now() + timeout_ms;
  let held;
  while (!(held = await holds())) {
    if (performance.now() > deadline) throw new Error(`not in ${timeout_ms} ms: ${what}`);
    await pause(10);
  }
  return held;
}

export function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** The detail of the next event of that name for which `fits` holds. */
export function next(target, name, fits = () => true) {
  return new Promise((resolve) => {
    const take = ({ detail }) => {
      if (!fits(detail)) return;
      target.removeEventListener(name, take);
      resolve(detail);
    };
    target.addEventListener(name, take);
  });
}

export function live(connection) {
  return until(() => connection.state.state === "live", "the connection is live");
}

/** Words of every plane, that a lost or doubled character shows in. */
export function speech(words) {
  const kinds = ["plain", "wörter", "слово", "文字列", "👩‍🚀🚀", "שלום", "e\u0301\u0302", "\u{10FFFF}", '"\\/\u2028'];
  return Array.from({ length: words }, (_, i) => `${kinds[i % kinds.length]}${i} `).join("");
}

/** What a demo turn says, and how fast. */
export function saying(text, rate = 200) {
  return { input: "Speak", params: { demo: { text, rate } } };
}

/** Checks that events continue each other without a gap, and gives their text. */
export function textOf(events) {
  let seq = 0;
  let text = "";
  for (const event of events) {
    if (event.type === "turn.reset") {
      seq = event.seq;
      text = "";
    } else if (event.seq !== undefined) {
      equal(event.after ?? event.seq - 1, seq, "what the event continues");
      seq = event.seq;
    }
    if (event.type === "turn.delta") text += event.text ?? "";
  }
  return text;
}

function shown(value) {
  return value === undefined ? "undefined" : JSON.stringify(value, (_, item) => (item && typeof item === "object" && !Array.isArray(item) ? sorted(item) : item));
}

function sorted(map) {
  return Object.fromEntries(Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1)));
}
