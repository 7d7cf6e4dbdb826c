import { codecs } from "../../static/turnwire.js";
import { CODECS, equal, live, ok, pause, refused, saying, speech, test, until } from "./harness.js";

const LONG = speech(3000);

test("a signal that is aborted already starts nothing", async (stage) => {
  const sent = [];
  const connection = stage.connect(await stage.shared(), { wire: ({ direction, frame }) => direction === "out" && sent.push(frame.type) });
  await live(connection);
  const turn = connection.start({ ...saying(LONG), signal: AbortSignal.abort() });
  const message = await turn;
  equal([message.ended, message.text, message.id], ["cancelled", "", null]);
  await refused(turn.accepted, "withdrawn");
  equal(sent.includes("turn.start"), false, "that it was sent");
});

test("a signal that aborts later stops the turn and keeps what was said", async (stage) => {
  for (const codec of CODECS) {
    const connection = stage.connect(await stage.shared(), { codec });
    const control = new AbortController();
    const turn = connection.start({ ...saying(LONG), signal: control.signal });
    await until(() => turn.text.length > 20, "something was said");
    control.abort(new Error("enough"));
    const message = await turn;
    equal([message.ended, turn.ending.by, turn.ending.reason], ["cancelled", "client", "enough"]);
    ok(LONG.startsWith(message.text) && message.text.length > 20, "what was said is a beginning");
    equal((await connection.getTurn(turn.id)).message.parts[0].text, message.text, "what the gateway keeps");
  }
});

test("law 5: after the answer to a cancel comes no more text", async (stage) => {
  const connection = stage.connect(await stage.shared());
  const turn = connection.start(saying(LONG, 2000));
  await until(() => turn.text.length > 20, "something was said");
  equal(await turn.cancel("stop"), { [turn.id]: "cancelled" });
  const { length } = turn.text;
  await turn;
  await pause(50);
  equal(turn.text.length, length);
  equal(await turn.cancel(), {}, "stopping what has ended");
});

test("many turns are stopped with one request, also before their first token", async (stage) => {
  const connection = stage.connect(await stage.shared());
  await live(connection);
  const turns = Array.from({ length: 10 }, () => connection.start({ input: "Hi", params: { demo: { text: LONG, first_ms: 20_000 } } }));
  const outcomes = await connection.cancel(turns, "all of them");
  equal(Object.values(outcomes), Array.from(turns, () => "cancelled"));
  for (const turn of turns) equal((await turn).ended, "cancelled");
  equal(connection.running, []);
});

test("a start that was never sent is taken back", async (stage) => {
  const connection = stage.connect(await stage.shared());
  await live(connection);
  connection.offline();
  const turn = connection.start(saying("never said"));
  await turn.cancel();
  equal([(await turn).ended, turn.ending.local], ["cancelled", true]);
  connection.online();
  await live(connection);
  await refused(connection.getTurn(turn.id), "not_found");
});

test("law 6: the same start twice is one turn", async (stage) => {
  const connection = stage.connect(await stage.shared());
  const fields = { turn: `t_${Date.now()}_${Math.random()}`.replace(".", "_"), ...saying(speech(100), 300) };
  const turn = connection.start(fields);
  ok(connection.start(fields) === turn, "the same object");
  await turn.accepted;
  equal((await connection.request("turn.start", fields)).status, "attached");
  await refused(connection.request("turn.start", { ...fields, input: "something else" }), "conflict");
  equal((await turn).text, speech(100));
  equal(connection.violations, []);
  // After its ending the same start gives the same message again, from the first event on.
  const again = connection.start(fields);
  ok(again !== turn, "a new object");
  equal((await again).text, speech(100));
  equal(codecs.json.decode(codecs.json.encode(again.parts)), turn.parts);
});
