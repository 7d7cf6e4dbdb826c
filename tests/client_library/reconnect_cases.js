import { connect, TurnwireError } from "../../static/turnwire.js";
import { CODECS, equal, live, next, ok, pause, demoStart, sampleText, test, textOf, until } from "./harness.js";

const TEXT = sampleText(400);
const RETRY_MS = 5;

/** Lets the connection reconnect at once after each loss, as these cases don't test the delays. */
function eager(connection) {
  connection.addEventListener("state", ({ detail }) => detail.state === "waiting" && setTimeout(() => connection.retryNow(), RETRY_MS));
  return connection;
}

async function collected(turn) {
  const events = [];
  for await (const event of turn) events.push(event);
  return events;
}

test("law 7: no character is lost if sockets are dropped at random, in both codecs", async (stage) => {
  for (const codec of CODECS) {
    const connection = eager(stage.connect(await stage.shared(), { codec }));
    const turns = Array.from({ length: 4 }, () => connection.start(demoStart(TEXT, 250)));
    const all = turns.map(collected);
    while (connection.running.length > 0) {
      await pause(Math.random() * 150);
      connection.drop();
    }
    for (const [i, events] of (await Promise.all(all)).entries()) {
      equal(textOf(events), TEXT, "the text of the events");
      equal(turns[i].text, TEXT);
    }
    ok(connection.traffic.sockets > 5, `${connection.traffic.sockets} sockets`);
    equal(connection.violations, []);
  }
});

test("an invalid URL is refused at once with an error that quotes it", async () => {
  for (const url of ["", "ws", "/ws", "gateway.example:8000/ws", "https://gateway.example/ws", "ws://", "wss://gateway.example/ws#here"]) {
    let thrown = null;
    try {
      connect({ url, storage: null }).close();
    } catch (error) {
      thrown = error;
    }
    ok(thrown instanceof TurnwireError && thrown.code === "invalid_url", `${url}: ${thrown}`);
    ok(thrown.message.includes(`“${url}”`), thrown.message);
  }
});

test("law 7: no character is lost if the network fails in the middle of frames", async (stage) => {
  for (const codec of CODECS) {
    const proxy = await stage.proxy(await stage.shared());
    await stage.cut(proxy, Array.from({ length: 12 }, () => 150 + Math.floor(Math.random() * 6000)));
    const connection = eager(stage.connect(proxy, { codec }));
    const turns = Array.from({ length: 3 }, () => connection.start(demoStart(TEXT, 400)));
    for (const turn of turns) equal((await turn).text, TEXT);
    ok(connection.traffic.sockets >= 5, `${connection.traffic.sockets} sockets`);
    equal(connection.violations, []);
  }
});

test("law 6: a start whose result was lost runs once", async (stage) => {
  const proxy = await stage.proxy(await stage.shared());
  const connection = eager(stage.connect(proxy));
  await live(connection);
  for (let i = 0; i < 5; i++) {
    const turn = connection.start(demoStart(`once ${i}`, 0));
    if (i % 2) connection.drop();
    else await stage.cut(proxy);
    const message = await turn;
    equal(message.text, `once ${i}`);
    equal((await connection.conversation(message.conversation).messages().all()).length, 2);
  }
  equal(connection.violations, []);
});

test("the codec can be switched in the middle of a turn", async (stage) => {
  const connection = stage.connect(await stage.shared());
  const turn = connection.start(demoStart(TEXT, 300));
  for (const codec of ["msgpack", "json", "msgpack"]) {
    const length = turn.text.length;
    await until(() => turn.text.length > length, "the turn continues");
    connection.switchCodec(codec);
    equal(connection.codec, codec);
  }
  equal((await turn).text, TEXT);
  await live(connection); // the turn may have ended before the last socket was open
  equal([connection.traffic.sockets, connection.violations], [4, []]);
});

test("no event arrives while offline, and online delivers the missed ones", async (stage) => {
  const connection = stage.connect(await stage.shared());
  const turn = connection.start(demoStart(TEXT, 400));
  await until(() => turn.text.length > 50, "the turn has text");
  connection.offline();
  const { length } = turn.text;
  equal([connection.state.state, connection.state.delay_ms], ["waiting", null]);
  connection.retryNow();
  globalThis.dispatchEvent(new Event("online"));
  await pause(300);
  equal([turn.text.length, connection.state.state], [length, "waiting"]);
  connection.online();
  equal((await turn).text, TEXT);
});

test("delays grow with full jitter, and an online event ends them", async (stage) => {
  const gone = [{ close: 1011 }];
  const gateway = await stage.scripted(...Array.from({ length: 30 }, () => gone));
  const connection = stage.connect(gateway);
  const delays = [];
  for (let i = 0; i < 12; i++) {
    const { delay_ms } = await next(connection, "state", ({ state }) => state === "waiting");
    delays.push(delay_ms);
    const at = performance.now();
    const opened = next(connection, "state", ({ state }) => state === "connecting");
    globalThis.dispatchEvent(new Event("online"));
    await opened;
    ok(performance.now() - at < 200, "at once");
  }
  for (const [i, delay] of delays.entries()) ok(delay >= 0 && delay <= Math.min(20_000, 500 * 2 ** (i + 1)), `${i}: ${delay} ms`);
  ok(new Set(delays).size > 6, `${delays} differ`);
  ok(Math.max(...delays) > 1_000, `${delays} grow`);
});

test("the close code decides whether and when to reconnect", async (stage) => {
  const gateway = await stage.scripted([{ ready: {} }, { close: 4502 }], [{ ready: {} }, { close: 4403 }]);
  const connection = stage.connect(gateway);
  const waiting = await next(connection, "state", ({ state }) => state === "waiting");
  equal(waiting.delay_ms, 0);
  const closed = await next(connection, "state", ({ state }) => state === "closed");
  equal(closed.code, 4403);
  equal((await stage.seen(gateway)).length, 2);
  equal(await connection.request("ping").catch(({ code }) => code), "connection_closed");
});

test("going_away sets the delay of the reconnect", async (stage) => {
  const leaving = { type: "going_away", reason: "shutdown", deadline_ms: 0, reconnect_after_ms: 123 };
  const gateway = await stage.scripted([{ ready: {} }, { send: leaving }, { close: 4503 }]);
  const connection = stage.connect(gateway);
  equal(await next(connection, "event", ({ type }) => type !== "ready"), leaving);
  equal((await next(connection, "state", ({ state }) => state === "waiting")).delay_ms, 123);
  await live(connection);
});

test("a socket without a heartbeat response is replaced", async (stage) => {
  const gateway = await stage.scripted([{ ready: { heartbeat_s: 0.3 } }, { expect: "never" }]);
  const connection = stage.connect(gateway);
  const { reason } = await next(connection, "state", ({ state }) => state === "waiting");
  ok(/No response/.test(reason), reason);
  await live(connection);
});

test("after an online event a dead socket is detected long before the next heartbeat", async (stage) => {
  const gateway = await stage.scripted([{ ready: { heartbeat_s: 600 } }, { deaf_s: 20 }]);
  const connection = stage.connect(gateway);
  await live(connection);
  const left = next(connection, "state", ({ state }) => state === "waiting");
  globalThis.dispatchEvent(new Event("online"));
  ok(/No response/.test((await left).reason), "the reason");
  await live(connection);
  const sockets = connection.traffic.sockets;
  globalThis.dispatchEvent(new Event("online"));
  await connection.ping();
  await pause(50);
  equal([connection.state.state, connection.traffic.sockets], ["live", sockets]);
});

test("a frame that can't be decoded closes the socket and fails no turn", async (stage) => {
  const gateway = await stage.scripted([{ ready: {} }, { expect: "turn.start" }, { send: "no map" }, { send: null }]);
  const connection = stage.connect(gateway);
  const left = next(connection, "state", ({ state }) => state === "waiting");
  const turn = connection.start({ input: "Hi" });
  ok(/decoded/.test((await left).reason), "the reason");
  await live(connection);
  await connection.ping();
  equal([turn.ended, connection.violations], [false, []]);
});
