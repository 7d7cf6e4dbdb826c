import { arrivedAt, codecs } from "../../static/turnwire.js";
import { CODECS, equal, live, ok, pause, refused, demoStart, sampleText, test, textOf } from "./harness.js";

test("a turn is an iterator of its events and a promise of its message, in both codecs", async (stage) => {
  for (const codec of CODECS) {
    const connection = stage.connect(await stage.shared(), { codec });
    const text = sampleText(60);
    const turn = connection.start(demoStart(text, 400));
    const events = [];
    for await (const event of turn) events.push(event);
    equal(events[0].type, "turn.started");
    equal(events.at(-1).type, "turn.completed");
    equal(textOf(events), text, "the text of the events");
    const message = await turn;
    equal(message.text, text, "the message");
    equal([message.ended, message.finish_reason, message.parts.length], ["completed", "stop", 1]);
    ok(message.usage.output_tokens >= 60, "the usage has tokens");
    equal(turn.position.seq, events.at(-1).seq);
    equal((await connection.getTurn(turn.id)).message.parts, message.parts, "the stored message");
    ok(turn.askedAt < turn.firstAt && turn.firstAt < turn.lastAt, "the turn's times are in order");
    const times = events.map(arrivedAt);
    ok(times.every((at, i) => i === 0 || at >= times[i - 1]), "the events' times are in order");
    equal(connection.violations, []);
  }
});

test("for a late consumer, deltas are merged and none is lost", async (stage) => {
  const connection = stage.connect(await stage.shared());
  const text = sampleText(200);
  const turn = connection.start(demoStart(text, 2000));
  await turn;
  const events = [];
  for await (const event of turn) events.push(event);
  equal(textOf(events), text);
  ok(events.length <= 4, `${events.length} events`);
});

test("a second iteration continues where the first one stopped", async (stage) => {
  const connection = stage.connect(await stage.shared());
  const text = sampleText(40);
  const turn = connection.start(demoStart(text, 400));
  const events = [];
  for await (const event of turn) {
    events.push(event);
    if (events.length === 5) break;
  }
  await pause(30);
  for await (const event of turn) events.push(event);
  equal(textOf(events), text);
});

test("twenty concurrent turns don't mix", async (stage) => {
  for (const codec of CODECS) {
    const connection = stage.connect(await stage.shared(), { codec });
    const texts = Array.from({ length: 20 }, (_, i) => `${i}: ${sampleText(30 + i)}`);
    const messages = await Promise.all(texts.map((text) => connection.start(demoStart(text, 300))));
    equal(messages.map(({ text }) => text), texts);
    equal(connection.running, []);
  }
});

test("reasoning and tool calls are separate parts, as in the stored message", async (stage) => {
  const connection = stage.connect(await stage.shared(), { codec: "msgpack" });
  const demo = { thinking: 5, text: "Let me look.", tool: { name: "weather", arguments: '{"place":"Oslo"}' }, rate: 500 };
  const message = await connection.start({ input: "Rain?", params: { demo } });
  equal(message.parts.map(({ kind }) => kind), ["reasoning", "text", "tool_call"]);
  equal([message.text, message.parts[2].arguments], ["Let me look.", '{"place":"Oslo"}']);
  equal((await connection.getTurn(message.turn)).message.parts, message.parts);
});

test("a failed turn rejects with its code and keeps its text", async (stage) => {
  const connection = stage.connect(await stage.shared());
  const turn = connection.start({ input: "Hi", params: { demo: { text: sampleText(20), rate: 500, fail: "cut", fail_after: 5 } } });
  const error = await refused(turn, "upstream_incomplete");
  ok(error.retryable, "the error is retryable");
  equal(error.final.text, turn.text);
  ok(error.final.text.length > 0, "the turn has text");
  await refused(connection.start({ input: "Hi", model: "no-such-model" }), "model_not_found");
});

test("a result that arrives in pieces is returned as one", async (stage) => {
  for (const codec of CODECS) {
    const pieces = [];
    const connection = stage.connect(await stage.shared(), { codec, wire: ({ frame }) => frame.type === "result.piece" && pieces.push(frame) });
    const text = "long ".repeat(9000);
    const message = await connection.start({ input: "Hi", params: { demo: { text, tokens: 9000, rate: 0 } } });
    equal(message.text, text);
    equal((await connection.getTurn(message.turn)).message.parts[0].text, text);
    ok(pieces.length > 1, `${pieces.length} pieces`);
  }
});

test("the wire observer gets every frame with its size, and the counters are the sums", async (stage) => {
  for (const codec of CODECS) {
    const entries = [];
    const connection = stage.connect(await stage.shared(), { codec, wire: (entry) => entries.push(entry) });
    await connection.start(demoStart(sampleText(20), 500));
    connection.wire = null;
    const sum = (direction) => {
      const those = entries.filter((entry) => entry.direction === direction);
      return { frames: those.length, bytes: those.reduce((all, { bytes }) => all + bytes, 0) };
    };
    equal({ in: sum("in"), out: sum("out") }, { in: connection.traffic.in, out: connection.traffic.out });
    ok(entries.some(({ direction, frame }) => direction === "out" && frame.type === "turn.start"), "the start is observed");
    // The gateway's encoder and this one agree on the size of a frame.
    for (const { frame, bytes, direction } of entries) {
      if (direction === "in" && frame.type === "turn.delta") equal(codecs[codec].bytes(codecs[codec].encode(frame)), bytes, frame.text);
    }
    const quiet = entries.length;
    await connection.ping();
    equal(entries.length, quiet, "the number of entries without an observer");
  }
});

test("models, usage, feedback and errors of requests", async (stage) => {
  const connection = stage.connect(await stage.shared());
  await live(connection);
  const { models } = await connection.models();
  ok(models.some(({ id, available }) => id === "demo" && available), "the demo model is listed");
  const message = await connection.start(demoStart("one two three"));
  const alone = await connection.estimate({ input: "Hi" });
  const inside = await connection.conversation(message.conversation).estimate({ input: "Hi" });
  equal([alone.model, alone.estimated, alone.trimmed, alone.cost], ["demo", true, 0, null]);
  ok(inside.input_tokens > alone.input_tokens, "the conversation's history is counted");
  equal(await connection.feedback(message.id, "up", "good"), {});
  ok((await connection.usage({ conversation: message.conversation })).usage.output_tokens > 0, "the usage has tokens");
  const error = await refused(connection.request("turn.get", { turn: "nobody" }), "not_found");
  equal([error.path, error.retryable], ["turn", false]);
  await refused(connection.request("conversation.create", { title: "x".repeat(70_000) }), "too_large");
});

test("no frame is lost if the wire observer throws", async (stage) => {
  const text = sampleText(20);
  const wire = () => {
    throw new Error("This observer throws on purpose.");
  };
  const connection = stage.connect(await stage.shared(), { wire });
  equal((await connection.start(demoStart(text, 400))).text, text);
  equal([connection.traffic.sockets, connection.violations.length], [1, 0]);
});
