import { demoStart, equal, next, ok, pause, refused, sampleText, test, textOf, until } from "./harness.js";
import { SECRET, signed } from "./tokens.js";

const TEXT = sampleText(150);

/** A proxy to the shared gateway that lets no WebSocket through, in the given way. */
async function blocked(stage, upgrades, gateway) {
  const proxy = await stage.proxy(gateway ?? (await stage.shared()));
  await stage.block(proxy, upgrades);
  return proxy;
}

/** Checks that a turn's events and its message have the text. */
async function complete(turn, text) {
  const events = [];
  for await (const event of turn) events.push(event);
  equal([textOf(events), turn.text, (await turn).ended], [text, text, "completed"]);
}

for (const upgrades of ["200", "400", "502", "close", "hang"]) {
  test(`where a proxy answers WebSockets with ${upgrades}, turns run over HTTP`, async (stage) => {
    const proxy = await blocked(stage, upgrades);
    const connection = stage.connect(proxy, { codec: upgrades === "400" ? "msgpack" : "json" });
    const turns = [1, 2, 3].map(() => connection.start(demoStart(TEXT, 400)));
    for (const turn of turns) await complete(turn, TEXT);
    equal([connection.transport, connection.state.state, connection.violations], ["http", "live", []]);
    ok((await stage.block(proxy, upgrades)) > 0, "a WebSocket was tried first");
  });
}

test("with the transport socket or http, nothing else is tried", async (stage) => {
  const proxy = await blocked(stage, "502");
  const socket = stage.connect(proxy, { transport: "socket" });
  await next(socket, "state", ({ state, reason }) => state === "waiting" && reason.includes("a proxy may block it"));
  equal(socket.transport, "socket");
  socket.close();
  const before = await stage.block(proxy, "502");
  const http = stage.connect(proxy, { transport: "http" });
  await complete(http.start(demoStart("Hello there.")), "Hello there.");
  equal([http.transport, await stage.block(proxy, "502")], ["http", before]);
});

test("law 7: over HTTP, no character is lost if the network fails in the middle of events", async (stage) => {
  const proxy = await stage.proxy(await stage.shared());
  const connection = stage.connect(proxy, { transport: "http" });
  connection.addEventListener("state", ({ detail }) => detail.state === "waiting" && setTimeout(() => connection.retryNow(), 50));
  const turns = Array.from({ length: 3 }, () => connection.start(demoStart(TEXT, 60)));
  for (const words of [5, 25, 50, 80]) {
    await until(() => turns.some(({ text }) => text.split(" ").length > words), "the answers go on");
    await stage.cut(proxy);
  }
  for (const turn of turns) await complete(turn, TEXT);
  equal(connection.violations, []);
});

test("over HTTP, many turns run at a time, each can be cancelled and followed, and every request has its answer", async (stage) => {
  const gateway = await stage.shared();
  const [connection, other] = [1, 2].map(() => stage.connect(gateway, { transport: "http" }));
  await connection.ping();
  const many = Array.from({ length: 7 }, () => connection.start(demoStart(TEXT, 60)));
  const early = connection.start(demoStart(TEXT, 5));
  equal(Object.values(await early.cancel("not needed")), ["cancelled"]);
  equal([(await early).ended, early.ending.reason], ["cancelled", "not needed"]);
  const stopper = new AbortController();
  const late = connection.start({ ...demoStart(TEXT, 5), signal: stopper.signal });
  await until(() => late.text.length > 10, "the answer has begun");
  stopper.abort("enough");
  equal([(await late).ended, TEXT.startsWith(late.text), late.text.length < TEXT.length], ["cancelled", true, true]);
  await many[0].accepted;
  const followed = other.follow(many[0].id);
  for (const turn of [...many, followed]) await complete(turn, TEXT);
  await refused(other.follow("never-started"), "not_found");
  const conversation = connection.conversation(many[0].conversation);
  equal((await conversation.attach()).gone, {});
  const updated = next(conversation, "updated");
  await other.conversation(conversation.id).update({ title: "Renamed" });
  await connection.ping();
  equal((await updated).title, "Renamed");
  equal((await conversation.messages().all()).map(({ role }) => role), ["user", "assistant"]);
  await connection.feedback((await many[0]).id, "up", "Good.");
  equal([(await connection.models()).default, (await connection.getTurn(early.id)).status], ["demo", "cancelled"]);
  ok((await connection.estimate({ input: "Hello" })).input_tokens > 0, "a start is estimated");
  await conversation.delete();
  await refused(conversation.get(), "not_found");
  await refused(connection.request("conversation.get", { conversation: ".." }), "invalid_request");
  equal([connection.violations, other.violations], [[], []]);
});

test("a WebSocket is used again as soon as one opens, but not in the middle of a turn", async (stage) => {
  const proxy = await blocked(stage, "close");
  const connection = stage.connect(proxy);
  const conversation = await connection.createConversation();
  await conversation.attach();
  equal(connection.transport, "http");
  await stage.block(proxy, "pass");
  // The probe's first wait is 19 s at most, and this turn lasts longer.
  const text = sampleText(110);
  const turn = connection.start(demoStart(text, 5));
  let moved = null;
  void next(connection, "state", () => connection.transport === "socket").then(() => (moved = turn.ended));
  await complete(turn, text);
  equal(connection.transport, "http");
  await until(() => moved !== null && connection.state.state === "live", "a WebSocket is live");
  equal([moved, connection.transport], [true, "socket"]);
  await complete(conversation.start(demoStart("Back.")), "Back.");
  equal(connection.violations, []);
});

test("over HTTP, an expired token is replaced once, and a wrong one closes the connection", async (stage) => {
  const gateway = await stage.gateway({ settings: { TURNWIRE_AUTH: "jwt", TURNWIRE_JWT_SECRET: SECRET } });
  let tokens = 0;
  const token = () => signed("ann", ++tokens === 1 ? 1 : 60);
  const connection = stage.connect(gateway, { transport: "http", token });
  await complete(connection.start(demoStart("Before.")), "Before.");
  await pause(3_000); // the first token has expired, as after a long sleep
  await complete(connection.start(demoStart("After.")), "After.");
  equal([tokens, connection.violations], [2, []]);
  const wrong = stage.connect(gateway, { transport: "http", token: () => "wrong" });
  await refused(wrong.start(demoStart("Never.")), "connection_closed");
  equal(wrong.state.code, 4401);
});

test("over HTTP, a drained gateway's turn continues on the next instance", async (stage) => {
  const [first, second] = [await stage.gateway({ redis: true }), await stage.gateway({ redis: true })];
  const proxy = await blocked(stage, "502", first);
  const connection = stage.connect(proxy);
  const turn = connection.start(demoStart(TEXT, 60));
  await until(() => turn.text.length > 20, "the answer has begun");
  await stage.retarget(proxy, second);
  await stage.stop(first);
  const done = complete(turn, TEXT);
  await done;
  await complete(connection.start(demoStart("Next.")), "Next.");
  equal([connection.transport, connection.violations], ["http", []]);
});
