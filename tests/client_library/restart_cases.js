import { equal, live, next, ok, pause, saying, speech, test, until } from "./harness.js";

const TEXT = speech(250);
/** An owner's death is noticed after so long. */
const QUICK = { TURNWIRE_LEASE_S: "1", TURNWIRE_DRAIN_S: "10" };

test("laws 1 and 9: kill -9 in the middle of an answer, and the next gateway goes on", async (stage) => {
  const folder = `killed_${Date.now()}`;
  const first = await stage.gateway({ settings: QUICK, folder });
  const way = await stage.way(first);
  for (const codec of ["json", "msgpack"]) {
    const connection = stage.connect(way, { codec });
    const turn = connection.start(saying(TEXT, 100));
    await until(() => turn.text.length > 200, "it speaks");
    await stage.stop(codec === "json" ? first : stage.second, { kill: true });
    await stage.cut(way);
    stage.second = await stage.gateway({ settings: QUICK, folder });
    await stage.turnWay(way, stage.second);
    equal((await turn).text, TEXT);
    equal(connection.violations, []);
  }
});

test("SIGTERM: what runs is said to its end, what is asked meanwhile waits for the next gateway", async (stage) => {
  const folder = `drained_${Date.now()}`;
  const first = await stage.gateway({ settings: QUICK, folder });
  const way = await stage.way(first);
  const connection = stage.connect(way);
  const turn = connection.start(saying(TEXT, 250));
  await until(() => turn.text.length > 100, "it speaks");
  const leaving = next(connection, "event", ({ type }) => type === "going_away");
  await stage.stop(first);
  ok((await leaving).reconnect_after_ms > 0, "it says when to come back");
  const later = connection.start(saying("said by the next one"));
  equal((await turn).text, TEXT);
  equal(later.status, "starting");
  await until(() => connection.state.state === "waiting", "the first one has left");
  await stage.turnWay(way, await stage.gateway({ settings: QUICK, folder }));
  equal((await later).text, "said by the next one");
  equal(connection.violations, []);
});

test("two instances on one Redis: an answer goes on at the other one, whether the first leaves or dies", async (stage) => {
  for (const kill of [false, true]) {
    const [first, second] = await Promise.all([1, 2].map(() => stage.gateway({ settings: QUICK, redis: true })));
    const way = await stage.way(first);
    const connection = stage.connect(way, { codec: kill ? "msgpack" : "json" });
    const turns = Array.from({ length: 3 }, () => connection.start(saying(TEXT, 100)));
    await until(() => turns.every((turn) => turn.text.length > 200), "they speak");
    await stage.turnWay(way, second);
    await stage.stop(first, { kill });
    for (const turn of turns) equal((await turn).text, TEXT);
    equal(connection.violations, []);
  }
});

test("one connection follows at one instance what another starts at the other", async (stage) => {
  const [first, second] = await Promise.all([1, 2].map(() => stage.gateway({ settings: QUICK, redis: true })));
  const [one, other] = [stage.connect(first), stage.connect(second)];
  const turn = one.start(saying(TEXT, 300));
  const { conversation } = await turn.accepted;
  const arrived = [];
  other.addEventListener("turn", ({ detail }) => arrived.push(detail));
  await other.conversation(conversation).attach();
  await until(() => arrived.length === 1, "it arrived");
  equal(arrived[0].id, turn.id);
  equal((await arrived[0]).text, TEXT);
  const follower = stage.connect(second, { codec: "msgpack" }).follow(turn.id);
  equal((await follower).text, TEXT);
  const late = one.start(saying(TEXT, 300));
  await late.accepted;
  const followed = other.follow(late.id);
  await pause(100);
  other.drop();
  await live(other);
  equal((await followed).text, TEXT);
  equal([one.violations, other.violations], [[], []]);
});
