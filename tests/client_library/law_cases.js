import { LawViolation } from "../../static/turnwire.js";
import { equal, next, ok, pause, refused, test, textOf, until } from "./harness.js";

const ready = { ready: {} };
const started = (fields) => ({ send: { type: "turn.started", turn: "t", seq: 1, epoch: 7, status: "running", conversation: "c", model: "demo", input: null, message: "m", parent: null, ...fields } });
const part = { send: { type: "turn.part", turn: "t", seq: 2, part: 0, kind: "text" } };
const delta = (seq, text, after) => ({ send: { type: "turn.delta", turn: "t", seq, part: 0, text, ...(after !== undefined && { after }) } });
const completed = (seq) => ({ send: { type: "turn.completed", turn: "t", seq, finish_reason: "stop", usage: null, cost: null, message: "m" } });
const begin = [ready, { expect: "turn.start", answer: { turn: "t", conversation: "c", status: "running", epoch: 7 } }, started(), part];

/** Starts a turn on a gateway that follows the script. */
async function play(stage, ...openings) {
  const gateway = await stage.scripted(...openings);
  const connection = stage.connect(gateway);
  const turn = connection.start({ turn: "t", input: "Hi" });
  return { gateway, connection, turn };
}

/** The law violations that are logged to the console while `run` runs. Other errors are logged as usual. */
async function loggedViolations(run) {
  const { error } = console;
  const logged = [];
  console.error = (...values) => (values[0] instanceof LawViolation ? logged.push(values) : error(...values));
  try {
    await run();
  } finally {
    console.error = error;
  }
  return logged;
}

test("a turn that was attached from its start while its events were on their way begins again", async (stage) => {
  const steps = [ready, { expect: "turn.attach" }, started(), part, { send: { type: "result", id: "1", result: { turns: { t: { conversation: "c", status: "running", epoch: 7, from: 0 } } } } }];
  const gateway = await stage.scripted([...steps, started(), part, delta(3, "All."), completed(4)]);
  const connection = stage.connect(gateway);
  const turn = connection.follow("t");
  const types = [];
  for await (const { type } of turn) types.push(type);
  equal(types, ["turn.started", "turn.part", "turn.reset", "turn.started", "turn.part", "turn.delta", "turn.completed"], "the events");
  equal((await turn).text, "All.", "the text");
  equal(connection.violations, [], "the violations");
});

const BROKEN = {
  "a gap": [delta(3, "a"), delta(5, "c"), delta(6, "d")],
  "a repetition": [delta(3, "a"), delta(3, "a")],
  "an overlap of deltas": [delta(3, "a"), delta(4, "b"), delta(5, "bc", 3)],
  "a delta of a part that was never opened": [{ send: { type: "turn.delta", turn: "t", seq: 3, part: 4, text: "a" } }],
  "a second start": [started()],
};

for (const [what, steps] of Object.entries(BROKEN)) {
  test(`law 1: ${what} fails the turn with one logged violation, and its later events are ignored`, async (stage) => {
    let played;
    const logged = await loggedViolations(async () => {
      played = await play(stage, [...begin, ...steps, completed(9), { send: { type: "durability", state: "ok" } }]);
      const violation = next(played.connection, "violation");
      const passed = next(played.connection, "event", ({ type }) => type === "durability");
      const error = await refused(played.turn, "law_violation");
      ok(error instanceof LawViolation && (await violation) === error, "the event has the error");
      await passed;
    });
    equal([played.connection.violations.length, logged.length], [1, 1]);
    ok(logged[0][0] === played.connection.violations[0], "the console has the violation");
    equal(played.turn.text, steps.length === 1 ? "" : steps.length === 2 || what === "a gap" ? "a" : "ab");
    await until(async () => (await stage.seen(played.gateway))[0].frames.some(({ type }) => type === "turn.detach"), "the turn is detached");
  });
}

test("law 2: an event after the end event is a violation, and the message is unchanged", async (stage) => {
  let played;
  const logged = await loggedViolations(async () => {
    played = await play(stage, [...begin, delta(3, "a"), completed(4), delta(5, "b")]);
    const violation = next(played.connection, "violation");
    equal((await played.turn).text, "a");
    ok(/law 2/.test((await violation).message), "the error names the law");
  });
  equal([logged.length, played.turn.text], [1, "a"]);
});

test("merged frames and unknown types and fields are handled as the protocol says", async (stage) => {
  const news = { send: { type: "turn.weather", turn: "t", seq: 4, sun: true } };
  const { turn, connection } = await play(stage, [...begin, delta(3, "a"), news, { send: { type: "moon" } }, delta(9, "bcd", 4), completed(10)]);
  equal((await turn).text, "abcd");
  equal(connection.violations, []);
});

test("turn.reset discards the received events and sets the position", async (stage) => {
  const reset = (epoch, seq) => ({ send: { type: "turn.reset", turn: "t", epoch, seq, reason: "again" } });
  const { turn } = await play(stage, [...begin, delta(3, "lost"), reset(9, 4), { send: { ...part.send, seq: 5 } }, delta(6, "kept"), reset(11, 0), started({ epoch: 11 }), part, delta(3, "told"), completed(4)]);
  const events = [];
  for await (const event of turn) events.push(event);
  equal([turn.text, textOf(events), turn.position], ["told", "told", { epoch: 11, seq: 4 }]);
});

test("law 9: the epoch of a takeover is adopted, and the next socket continues from it", async (stage) => {
  const resumed = { send: { type: "turn.status", turn: "t", seq: 4, status: "resumed", epoch: 12 } };
  const attached = { expect: "turn.attach", answer: { turns: { t: { conversation: "c", status: "running", epoch: 12, from: 5 } } } };
  const { turn, gateway } = await play(stage, [...begin, delta(3, "a"), resumed, delta(5, "b"), { close: 4502 }], [ready, attached, delta(6, "c"), completed(7)]);
  equal((await turn).text, "abc");
  equal((await stage.seen(gateway))[1].frames[0].positions, { t: { epoch: 12, seq: 5 } });
});

test("turn.detached too_slow: the turn is attached again at its position", async (stage) => {
  const detached = { send: { type: "turn.detached", turn: "t", reason: "too_slow" } };
  const again = { expect: "turn.attach", answer: { turns: { t: { conversation: "c", status: "running", epoch: 7, from: 3 } } } };
  const { turn, gateway } = await play(stage, [...begin, delta(3, "a"), detached, again, delta(5, "bc", 3), detached, again, completed(6)]);
  equal((await turn).text, "abc");
  const frames = (await stage.seen(gateway))[0].frames.filter(({ type }) => type === "turn.attach");
  equal(frames.map(({ positions }) => positions.t.seq), [3, 5]);
});

test("turn.detached gone: the turn fails and names its stored message", async (stage) => {
  const start = { expect: "turn.start", answer: { turn: "t", conversation: "c", status: "attached", epoch: 7 } };
  const gone = { error: { code: "gone", message: "No longer kept.", retryable: false, stored_message: "m_7" } };
  const detached = { send: { type: "turn.detached", turn: "t", reason: "gone" } };
  const attach = { expect: "turn.attach", answer: { turns: { t: gone } } };
  for (const opening of [[ready, start, detached, attach], [ready, { expect: "turn.start" }, detached, attach]]) {
    const { turn } = await play(stage, opening);
    const error = await refused(turn, "gone");
    equal(error.stored_message, "m_7");
  }
});

test("an attach that fails with a retryable error is repeated", async (stage) => {
  const refuse = { code: "store_unavailable", message: "Away.", retryable: true, retry_after_ms: 20 };
  const some = { turns: { t: { error: refuse } } };
  const good = { turns: { t: { conversation: "c", status: "running", epoch: 7, from: 3 } } };
  const { turn } = await play(stage, [...begin, delta(3, "a"), { close: 4502 }], [ready, { expect: "turn.attach", refuse }, { expect: "turn.attach", answer: some }, { expect: "turn.attach", answer: good }, delta(4, "b"), completed(5)]);
  equal((await turn).text, "ab");
});

test("a start refused by a gateway that shuts down is sent to the next one", async (stage) => {
  const refuse = { code: "shutting_down", message: "Leaving.", retryable: true };
  const { turn } = await play(stage, [ready, { expect: "turn.start", refuse }, { close: 4503 }], [...begin, delta(3, "a"), completed(4)]);
  equal((await turn).text, "a");
});

test("if the page closes the connection, its turns, attaches and later starts fail", async (stage) => {
  const { turn, connection } = await play(stage, [...begin, delta(3, "a")]);
  await until(() => turn.text === "a", "the turn has text");
  connection.close();
  equal((await refused(turn, "connection_closed")).final.text, "a");
  await refused(connection.conversation("c").attach(), "connection_closed");
  await pause(10);
  equal((await refused(connection.start({ input: "more" }), "connection_closed")).retryable, false);
});

test("a start whose events arrived before its result isn't sent again: the next socket attaches at the position", async (stage) => {
  const attach = { expect: "turn.attach", answer: { turns: { t: { conversation: "c", status: "running", epoch: 7, from: 3 } } } };
  const { turn, gateway } = await play(stage, [ready, { expect: "turn.start" }, started(), part, delta(3, "a"), { close: 4502 }], [ready, attach, delta(4, "b"), completed(5)]);
  equal((await turn).text, "ab");
  equal((await turn.accepted).conversation, "c");
  equal((await stage.seen(gateway))[1].frames.map(({ type }) => type), ["turn.attach"]);
});
