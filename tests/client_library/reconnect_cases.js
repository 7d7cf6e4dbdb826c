import { connect, TurnwireError } from "../../static/turnwire.js";
import { CODECS, equal, live, next, ok, pause, saying, speech, test, textOf, until } from "./harness.js";

const TEXT = speech(400);
const FAST_AGAIN = 5;

/** Comes back at once after each loss: these cases are about what is kept, not about patience. */
function eager(connection) {
  connection.addEventListener("state", ({ detail }) => detail.state === "waiting" && setTimeout(() => connection.retryNow(), FAST_AGAIN));
  return connection;
}

async function collected(turn) {
  const events = [];
  for await (const event of turn) events.push(event);
  return events;
}

test("law 7: a socket dropped at random costs no character, in both codecs", async (stage) => {
  for (const codec of CODECS) {
    const connection = eager(stage.connect(await stage.shared(), { codec }));
    const turns = Array.from({ length: 4 }, () => connection.start(saying(TEXT, 250)));
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

test("an address that no socket can have is refused at once, and says so", async () => {
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

test("law 7: a network that cuts in the middle of frames costs no character", async (stage) => {
  for (const codec of CODECS) {
    const way = await stage.way(await stage.shared());
    await stage.cut(way, Array.from({ length: 12 }, () => 150 + Math.floor(Math.random() * 6000)));
    const connection = eager(stage.connect(way, { codec }));
    const turns = Array.from({ length: 3 }, () => connection.start(saying(TEXT, 400)));
    for (const turn of turns) equal((await turn).text, TEXT);
    ok(connection.traffic.sockets >= 5, `${connection.traffic.sockets} sockets`);
    equal(connection.violations, []);
  }
});

test("a start whose answer was lost is not said twice (law 6)", async (stage) => {
  const way = await stage.way(await stage.shared());
  const connection = eager(stage.connect(way));
  await live(connection);
  for (let i = 0; i < 5; i++) {
    const turn = connection.start(saying(`once ${i}`, 0));
    if (i % 2) connection.drop();
    else await stage.cut(way);
    const message = await turn;
    equal(message.text, `once ${i}`);
    equal((await connection.conversation(message.conversation).messages().all()).length, 2);
  }
  equal(connection.violations, []);
});

test("the codec can be switched in the middle of an answer", async (stage) => {
  const connection = stage.connect(await stage.shared());
  const turn = connection.start(saying(TEXT, 300));
  for (const codec of ["msgpack", "json", "msgpack"]) {
    const length = turn.text.length;
    await until(() => turn.text.length > length, "it goes on");
    connection.switchCodec(codec);
    equal(connection.codec, codec);
  }
  equal((await turn).text, TEXT);
  equal([connection.traffic.sockets, connection.violations], [4, []]);
});

test("offline means nothing comes, and online brings what was missed", async (stage) => {
  const connection = stage.connect(await stage.shared());
  const turn = connection.start(saying(TEXT, 400));
  await until(() => turn.text.length > 50, "something was said");
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

test("delays grow with full jitter, and the network's return ends them", async (stage) => {
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

test("close codes say whether and when to come back", async (stage) => {
  const gateway = await stage.scripted([{ ready: {} }, { close: 4502 }], [{ ready: {} }, { close: 4403 }]);
  const connection = stage.connect(gateway);
  const waiting = await next(connection, "state", ({ state }) => state === "waiting");
  equal(waiting.delay_ms, 0);
  const closed = await next(connection, "state", ({ state }) => state === "closed");
  equal(closed.code, 4403);
  equal((await stage.seen(gateway)).length, 2);
  equal(await connection.request("ping").catch(({ code }) => code), "connection_closed");
});

test("going_away says when to come back", async (stage) => {
  const leaving = { type: "going_away", reason: "shutdown", deadline_ms: 0, reconnect_after_ms: 123 };
  const gateway = await stage.scripted([{ ready: {} }, { send: leaving }, { close: 4503 }]);
  const connection = stage.connect(gateway);
  equal(await next(connection, "event", ({ type }) => type !== "ready"), leaving);
  equal((await next(connection, "state", ({ state }) => state === "waiting")).delay_ms, 123);
  await live(connection);
});

test("a gateway that falls silent is left for another socket", async (stage) => {
  const gateway = await stage.scripted([{ ready: { heartbeat_s: 0.3 } }, { expect: "never" }]);
  const connection = stage.connect(gateway);
  const { reason } = await next(connection, "state", ({ state }) => state === "waiting");
  ok(/No response/.test(reason), reason);
  await live(connection);
});

test("a socket that died while the network was away is found out when it is back, long before a heartbeat is missed", async (stage) => {
  const gateway = await stage.scripted([{ ready: { heartbeat_s: 600 } }, { deaf_s: 20 }]);
  const connection = stage.connect(gateway);
  await live(connection);
  const left = next(connection, "state", ({ state }) => state === "waiting");
  globalThis.dispatchEvent(new Event("online"));
  ok(/No response/.test((await left).reason), "it says why");
  await live(connection);
  const sockets = connection.traffic.sockets;
  globalThis.dispatchEvent(new Event("online"));
  await connection.ping();
  await pause(50);
  equal([connection.state.state, connection.traffic.sockets], ["live", sockets]);
});

test("a frame that can't be read ends the socket, not the page", async (stage) => {
  const gateway = await stage.scripted([{ ready: {} }, { expect: "turn.start" }, { send: "no map" }, { send: null }]);
  const connection = stage.connect(gateway);
  const left = next(connection, "state", ({ state }) => state === "waiting");
  const turn = connection.start({ input: "Hi" });
  ok(/decoded/.test((await left).reason), "it says why");
  await live(connection);
  await connection.ping();
  equal([turn.ended, connection.violations], [false, []]);
});
