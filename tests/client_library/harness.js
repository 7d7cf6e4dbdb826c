/** The registry of the client's test cases, which are the same in Node and in a browser, their stage, and the assertions. */

import { connect } from "../../static/turnwire.js";

export const CODECS = ["json", "msgpack"];
export const cases = [];

/** @param {string} name @param {(stage: Stage) => Promise<void>} run */
export function test(name, run) {
  cases.push({ name, run });
}

/** Runs a case on its own stage. Returns null, or the error as a text. */
export async function outcome({ run }, url, timeout_ms = 90_000) {
  const stage = new Stage(url);
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`not finished in ${timeout_ms} ms`)), timeout_ms)));
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

/** The gateways, proxies and scripted gateways of tests/client_stage.py, and the connections of a case. */
class Stage {
  static #shared;
  #url;
  #connections = [];

  constructor(url) {
    this.#url = url;
  }

  /** The gateway shared by cases that don't stop or configure it. */
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

  /** Waits for the end of a gateway to which `stop` has sent SIGTERM. */
  ended({ name }) {
    return this.#ask("ended", { name });
  }

  proxy({ name }) {
    return this.#ask("proxy", { gateway: name });
  }

  retarget({ name }, gateway) {
    return this.#ask("retarget", { name, gateway: gateway.name });
  }

  cut({ name }, cuts = []) {
    return this.#ask("cut", { name, cuts });
  }

  /** Says what the proxy does to WebSockets: "pass", "close", "hang", or a status. Returns how many it has refused. */
  async block({ name }, upgrades) {
    return (await this.#ask("block", { name, upgrades })).refused;
  }

  /** The address of a server that isn't a gateway, or that is one of a later protocol. */
  foreign(path) {
    return { url: `${this.#url.replace(/^http/, "ws")}/${path}/ws` };
  }

  scripted(...openings) {
    return this.#ask("scripted", { openings });
  }

  seen({ name }) {
    return this.#ask("seen", { name });
  }

  /** A connection that is closed at the end of the case. It collects its law violations, which a case compares with []. */
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
  if (!truth) throw new Error(`false: ${what}`);
}

export function equal(actual, expected, what = "the value") {
  const [a, e] = [shown(actual), shown(expected)];
  if (a !== e) throw new Error(`${what} is ${a.slice(0, 2000)}, expected ${e.slice(0, 2000)}`);
}

/** The error of a promise, which must reject with this code. */
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

/** Waits until `holds` returns a truthy value, and returns it. */
export async function until(holds, what, timeout_ms = 30_000) {
  const deadline = performance.now() + timeout_ms;
  let held;
  while (!(held = await holds())) {
    if (performance.now() > deadline) throw new Error(`not within ${timeout_ms} ms: ${what}`);
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

/** Numbered words with characters of one to four bytes in UTF-8, so that a lost or duplicated character is detected. */
export function sampleText(words) {
  const kinds = ["plain", "wörter", "слово", "文字列", "👩‍🚀🚀", "שלום", "e\u0301\u0302", "\u{10FFFF}", '"\\/\u2028'];
  return Array.from({ length: words }, (_, i) => `${kinds[i % kinds.length]}${i} `).join("");
}

/** The fields of a demo turn that produces `text` at `rate` words per second. */
export function demoStart(text, rate = 200) {
  return { input: "Speak", params: { demo: { text, rate } } };
}

/** Checks that the events have no gap, and returns their text. */
export function textOf(events) {
  let seq = 0;
  let text = "";
  for (const event of events) {
    if (event.type === "turn.reset") {
      seq = event.seq;
      text = "";
    } else if (event.seq !== undefined) {
      equal(event.after ?? event.seq - 1, seq, "the position before the event");
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
