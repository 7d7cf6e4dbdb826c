// The client without a network, and at a gateway that refuses its origin, with a clock and sockets of this script's own.

import assert from "node:assert/strict";

let now = 0;
let timers = [];
const later = (run, delay_ms, every = null) => {
  const timer = { run, at: now + (delay_ms ?? 0), every };
  timers.push(timer);
  return timer;
};
globalThis.setTimeout = (run, delay_ms) => later(run, delay_ms);
globalThis.setInterval = (run, delay_ms) => later(run, delay_ms, delay_ms);
globalThis.clearTimeout = globalThis.clearInterval = (timer) => (timers = timers.filter((other) => other !== timer));
performance.now = () => now;
Math.random = () => 0.5;

/** Lets the clock run, and everything that is due. */
async function pass(ms) {
  const end = now + ms;
  for (;;) {
    for (let i = 0; i < 20; i++) await null;
    const due = timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
    if (!due) break;
    now = Math.max(now, due.at);
    if (due.every === null) clearTimeout(due);
    else due.at += due.every;
    due.run();
  }
  now = end;
}

const browser = new EventTarget();
globalThis.addEventListener = browser.addEventListener.bind(browser);
globalThis.removeEventListener = browser.removeEventListener.bind(browser);
const say = (event) => browser.dispatchEvent(new Event(event));

const sockets = [];
class FakeSocket {
  readyState = 1;
  sent = [];
  constructor() {
    sockets.push(this);
  }
  send(data) {
    this.sent.push(JSON.parse(data));
  }
  close() {
    this.readyState = 3;
  }
  ready() {
    const limits = { frame_bytes: 65536, input_bytes: 262144, turns: 64 };
    this.receive({ type: "ready", heartbeat_s: 15, limits });
  }
  receive(frame) {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }
  answer() {
    for (const { id } of this.sent.splice(0)) this.receive({ type: "result", id, result: {} });
  }
  fail() {
    const { onclose } = this;
    this.onclose = null; // a socket closes once
    onclose?.({ code: 1006, reason: "" });
  }
}

const { connect } = await import(process.argv[2]);
const open = (url, transport = "auto") => connect({ url, transport, storage: null, socket: () => new FakeSocket() });
const asked = [];
let gateway = null;
globalThis.fetch = async (address, options) => {
  asked.push({ address, ...options, at: now });
  if (gateway === null) throw new TypeError("fetch failed");
  return { status: gateway.status, json: async () => gateway.body };
};

const cases = {
  async "the loss of the network is heard at once, and the connection comes back with it"() {
    const connection = open("wss://chat.example/ws");
    await pass(0);
    sockets.at(-1).ready();
    const turn = connection.start({ input: "x" });
    const first = sockets.length;
    say("offline");
    assert.deepEqual(connection.state, { state: "waiting", delay_ms: null, reason: "No network", network: false });
    assert.equal(turn.ended, false);
    say("online");
    await pass(0);
    assert.equal(sockets.length, first + 1);
    sockets.at(-1).ready();
    assert.equal(connection.state.state, "live");
    assert.ok(sockets.at(-1).sent.some((frame) => frame.type === "turn.start"));
    connection.close();
  },
  async "without `online`, it is tried every 15 s"() {
    const connection = open("wss://chat.example/ws");
    await pass(0);
    sockets.at(-1).ready();
    const first = sockets.length;
    say("offline");
    await pass(14_900);
    assert.equal(sockets.length, first);
    await pass(200);
    assert.equal(sockets.length, first + 1);
    sockets.at(-1).fail();
    assert.equal(connection.state.network, false);
    await pass(15_000);
    assert.equal(sockets.length, first + 2);
    sockets.at(-1).ready();
    assert.deepEqual(Object.keys(connection.state), ["state", "ready"]);
    sockets.at(-1).fail();
    assert.equal(connection.state.network, undefined);
    connection.close();
    say("online");
    await pass(60_000);
    assert.equal(sockets.length, first + 2);
  },
  async "a gateway on this machine is asked first"() {
    const states = [];
    const connection = open("ws://127.0.0.1:8000/ws");
    connection.addEventListener("state", ({ detail }) => states.push([detail.state, detail.suspect ?? false]));
    await pass(0);
    sockets.at(-1).ready();
    sockets.at(-1).answer();
    say("offline");
    assert.equal(connection.state.suspect, true);
    sockets.at(-1).answer();
    assert.deepEqual([connection.state.state, connection.state.suspect], ["live", undefined]);
    await pass(5_000);
    assert.equal(connection.state.state, "live");
    say("offline");
    await pass(1_500);
    assert.deepEqual([connection.state.state, connection.state.network], ["waiting", undefined]);
    assert.deepEqual(states.slice(0, 5), [["live", false], ["live", true], ["live", false], ["live", true], ["waiting", false]]);
    say("online");
    connection.close();
  },
  async "Break it's own offline stays until it ends"() {
    const connection = open("wss://chat.example/ws");
    await pass(0);
    sockets.at(-1).ready();
    const first = sockets.length;
    connection.offline();
    say("offline");
    say("online");
    await pass(60_000);
    assert.deepEqual([sockets.length, connection.state.reason], [first, "Taken offline by this page"]);
    connection.online();
    await pass(0);
    assert.equal(sockets.length, first + 1);
    connection.close();
  },
  async "a refused origin closes for good, and every turn fails with it"() {
    globalThis.origin = "http://localhost:5173";
    const error = { code: "forbidden_origin", message: "Pages of this origin may not use it. Set TURNWIRE_ALLOWED_ORIGINS.", retryable: false };
    gateway = { status: 403, body: { error } };
    const errors = [];
    console.error = (text) => errors.push(text);
    const connection = open("wss://chat.example/some/ws");
    const turn = connection.start({ input: "x" });
    const began = now;
    while (connection.state.state !== "closed" && now - began < 60_000) {
      sockets.at(-1)?.fail();
      await pass(50);
    }
    assert.ok(now - began < 5_000, `${now - began} ms`);
    assert.deepEqual(connection.state, { state: "closed", code: 0, reason: error.message.slice(0, -1), error });
    await assert.rejects(turn.done, { code: "forbidden_origin", message: error.message });
    await assert.rejects(connection.models(), { code: "forbidden_origin" });
    assert.deepEqual(errors, [`turnwire: ${error.message}`]);
    const [{ address, credentials }] = asked.splice(0);
    assert.deepEqual([address, credentials], ["https://chat.example/some/v1?origin=http%3A%2F%2Flocalhost%3A5173", "omit"]);
    delete globalThis.origin;
  },
  async "anything else is retried, with a reason, and asked at most every 30 s"() {
    for (const [answer, reason] of [
      [null, "The gateway doesn't answer"],
      [{ status: 502, body: null }, "This address is not a Turnwire gateway (HTTP 502)"],
      [{ status: 200, body: { name: "turnwire" } }, "The gateway answers, but its WebSocket doesn't open: a proxy may block it"],
      [{ status: 403, body: { error: { code: "forbidden", message: "No. Do this." } } }, "No. Do this"],
    ]) {
      gateway = answer;
      const connection = open("wss://chat.example/ws", "socket");
      const failFor = async (ms) => {
        const end = now + ms;
        while (now < end) {
          if (connection.state.state === "connecting") sockets.at(-1).fail();
          await pass(100);
        }
      };
      await failFor(10_000);
      assert.equal(connection.state.reason ?? reason, reason);
      assert.equal(asked.length, 1, `${now} ${JSON.stringify(asked)} ${reason}`);
      await failFor(60_000);
      assert.ok(asked.length >= 2 && asked.length <= 3, JSON.stringify(asked.map(({ at }) => at)));
      asked.length = 0;
      while (connection.state.state !== "connecting") await pass(100);
      sockets.at(-1).ready();
      assert.equal(connection.state.state, "live");
      connection.close();
    }
  },
  async "an address that isn't a gateway's closes for good: in a program at once, in a page when it has answered twice"() {
    const message = "This address is not a Turnwire gateway (HTTP 404). Check the URL.";
    gateway = { status: 404, body: null };
    for (const [document, asks] of [[undefined, 1], [new EventTarget(), 2]]) {
      if (document) globalThis.document = document;
      const errors = [];
      console.error = (text) => errors.push(text);
      const connection = open("wss://chat.example/ws");
      const turn = connection.start({ input: "x" });
      const began = now;
      while (connection.state.state !== "closed" && now - began < 120_000) {
        if (connection.state.state === "connecting") sockets.at(-1).fail();
        await pass(100);
      }
      assert.ok(now - began < (asks === 1 ? 5_000 : 60_000), `${now - began} ms`);
      await assert.rejects(turn.done, { code: "not_a_gateway", message });
      assert.deepEqual([errors, asked.splice(0).length], [[`turnwire: ${message}`], asks]);
    }
    delete globalThis.document;
  },
};

const outcomes = {};
for (const [name, run] of Object.entries(cases)) {
  try {
    await run();
    outcomes[name] = null;
  } catch (error) {
    outcomes[name] = error.stack;
  }
}
console.log(JSON.stringify(outcomes));
process.exit(0);
