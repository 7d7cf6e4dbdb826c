import { codecs } from "../../static/turnwire.js";
import { CODECS, equal, live, ok, pause, refused, demoStart, sampleText, test, until } from "./harness.js";

const LONG = sampleText(3000);

test("a start with an aborted signal sends no request", async (stage) => {
  const sent = [];
  const connection = stage.connect(await stage.shared(), { wire: ({ direction, frame }) => direction === "out" && sent.push(frame.type) });
  await live(connection);
  const turn = connection.start({ ...demoStart(LONG), signal: AbortSignal.abort() });
  const message = await turn;
  equal([message.ended, message.text, message.id], ["cancelled", "", null]);
  await refused(turn.accepted, "withdrawn");
  equal(sent.includes("turn.start"), false, "that a start was sent");
});

test("a signal that aborts later cancels the turn and keeps its text", async (stage) => {
  for (const codec of CODECS) {
    const connection = stage.connect(await stage.shared(), { codec });
    const control = new AbortController();
    const turn = connection.start({ ...demoStart(LONG), signal: control.signal });
    await until(() => turn.text.length > 20, "the turn has text");
    control.abort(new Error("enough"));
    const message = await turn;
    equal([message.ended, turn.ending.by, turn.ending.reason], ["cancelled", "client", "enough"]);
    ok(LONG.startsWith(message.text) && message.text.length > 20, "the text is a prefix");
    equal((await connection.getTurn(turn.id)).message.parts[0].text, message.text, "the stored text");
  }
});

test("the reason of a signal or a cancel arrives as text, and one that has no text is left out", async (stage) => {
  const connection = stage.connect(await stage.shared());
  await live(connection);
  const circular = {};
  circular.self = circular;
  for (const [reason, text] of [
    ["the user left", "the user left"],
    [new TypeError("enough"), "enough"],
    [new DOMException("too slow", "TimeoutError"), "too slow"],
    [7, "7"],
    [{ code: 4 }, '{"code":4}'],
    [`${"🙂".repeat(400)}`, "🙂".repeat(300)],
    ["half \ud83d", "half \ufffd"],
    [undefined, null],
    [null, null],
    ["", null],
    [circular, null],
    [new DOMException("custom", "AbortError"), "custom"],
    [{ message: { x: 1 } }, '{"message":{"x":1}}'],
    [{ message: Object.create(null) }, '{"message":{}}'],
    [{ get message() { throw new Error("no"); } }, null],
  ]) {
    const control = new AbortController();
    const turn = connection.start({ ...demoStart(LONG), signal: control.signal });
    await until(() => turn.text.length > 0, "the turn has text");
    control.abort(reason);
    await turn;
    equal(turn.ending.reason ?? null, text, String(text));
    const unsent = connection.start({ ...demoStart(LONG), signal: AbortSignal.abort(reason) });
    await unsent;
    equal(unsent.ending.reason ?? null, text, "a turn that was never sent");
  }
  const conversation = connection.conversation((await connection.createConversation()).id);
  const turn = conversation.start(demoStart(LONG));
  await until(() => turn.text.length > 0, "the turn has text");
  await conversation.cancel(new Error("closed"));
  await turn;
  equal(turn.ending.reason, "closed");
});

test("law 5: no text follows the result of a cancel request", async (stage) => {
  const connection = stage.connect(await stage.shared());
  const turn = connection.start(demoStart(LONG, 2000));
  await until(() => turn.text.length > 20, "the turn has text");
  equal(await turn.cancel("stop"), { [turn.id]: "cancelled" });
  const { length } = turn.text;
  await turn;
  await pause(50);
  equal(turn.text.length, length);
  equal(await turn.cancel(), {}, "the result for an ended turn");
});

test("many turns are cancelled with one request, before their first token", async (stage) => {
  const sent = [];
  const connection = stage.connect(await stage.shared(), { wire: ({ direction, frame }) => direction === "out" && sent.push(frame.type) });
  await live(connection);
  const turns = Array.from({ length: 10 }, () => connection.start({ input: "Hi", params: { demo: { text: LONG, first_ms: 20_000 } } }));
  const outcomes = await connection.cancel(turns, "all of them");
  equal(Object.values(outcomes), Array.from(turns, () => "cancelled"));
  equal(sent.filter((type) => type === "turn.cancel").length, 1, "the number of requests");
  for (const turn of turns) equal((await turn).ended, "cancelled");
  equal(connection.running, []);
});

test("cancelling a start that wasn't sent yet withdraws it", async (stage) => {
  const connection = stage.connect(await stage.shared());
  await live(connection);
  connection.offline();
  const turn = connection.start(demoStart("never said"));
  await turn.cancel();
  equal([(await turn).ended, turn.ending.local], ["cancelled", true]);
  connection.online();
  await live(connection);
  await refused(connection.getTurn(turn.id), "not_found");
});

test("law 6: the same start twice is one turn", async (stage) => {
  const connection = stage.connect(await stage.shared());
  const fields = { turn: `t_${Date.now()}_${Math.random()}`.replace(".", "_"), ...demoStart(sampleText(100), 300) };
  const turn = connection.start(fields);
  ok(connection.start(fields) === turn, "the same object");
  await turn.accepted;
  equal((await connection.request("turn.start", fields)).status, "attached");
  await refused(connection.request("turn.start", { ...fields, input: "something else" }), "conflict");
  equal((await turn).text, sampleText(100));
  equal(connection.violations, []);
  // After the end event the same start replays the turn from its first event.
  const again = connection.start(fields);
  ok(again !== turn, "a new object");
  equal((await again).text, sampleText(100));
  equal(codecs.json.decode(codecs.json.encode(again.parts)), turn.parts);
});
