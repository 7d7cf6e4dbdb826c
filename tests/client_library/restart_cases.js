import { equal, live, next, ok, pause, demoStart, sampleText, test, until } from "./harness.js";

const TEXT = sampleText(250);
/** Settings with which a dead owner is detected after 1 s. */
const QUICK_TAKEOVER = { TURNWIRE_LEASE_S: "1", TURNWIRE_DRAIN_S: "10" };

test("laws 1 and 9: after kill -9 in the middle of a turn the next gateway continues it", async (stage) => {
  const folder = `killed_${Date.now()}`;
  const first = await stage.gateway({ settings: QUICK_TAKEOVER, folder });
  const proxy = await stage.proxy(first);
  for (const codec of ["json", "msgpack"]) {
    const connection = stage.connect(proxy, { codec });
    const turn = connection.start(demoStart(TEXT, 100));
    await until(() => turn.text.length > 200, "the turn has text");
    await stage.stop(codec === "json" ? first : stage.second, { kill: true });
    await stage.cut(proxy);
    stage.second = await stage.gateway({ settings: QUICK_TAKEOVER, folder });
    await stage.retarget(proxy, stage.second);
    equal((await turn).text, TEXT);
    equal(connection.violations, []);
  }
});

test("SIGTERM: live turns complete, and a later start waits for the next gateway", async (stage) => {
  const folder = `drained_${Date.now()}`;
  const first = await stage.gateway({ settings: QUICK_TAKEOVER, folder });
  const proxy = await stage.proxy(first);
  const connection = stage.connect(proxy);
  const turn = connection.start(demoStart(TEXT, 250));
  await until(() => turn.text.length > 100, "the turn has text");
  const leaving = next(connection, "event", ({ type }) => type === "going_away");
  await stage.stop(first);
  ok((await leaving).reconnect_after_ms > 0, "it has a reconnect delay");
  const later = connection.start(demoStart("said by the next one"));
  equal((await turn).text, TEXT);
  equal(later.status, "starting");
  await until(() => connection.state.state === "waiting", "the first gateway has closed the socket");
  await stage.ended(first);
  await stage.retarget(proxy, await stage.gateway({ settings: QUICK_TAKEOVER, folder }));
  equal((await later).text, "said by the next one");
  equal(connection.violations, []);
});

test("a connection to one instance follows a turn that is started on the other", async (stage) => {
  const [first, second] = await Promise.all([1, 2].map(() => stage.gateway({ settings: QUICK_TAKEOVER, redis: true })));
  const [one, other] = [stage.connect(first), stage.connect(second)];
  const turn = one.start(demoStart(TEXT, 300));
  const { conversation } = await turn.accepted;
  const arrived = [];
  other.addEventListener("turn", ({ detail }) => arrived.push(detail));
  await other.conversation(conversation).attach();
  await until(() => arrived.length === 1, "it arrived");
  equal(arrived[0].id, turn.id);
  equal((await arrived[0]).text, TEXT);
  const again = stage.connect(second, { codec: "msgpack" }).follow(turn.id);
  equal((await again).text, TEXT);
  const late = one.start(demoStart(TEXT, 300));
  await late.accepted;
  const followed = other.follow(late.id);
  await pause(100);
  other.drop();
  await live(other);
  equal((await followed).text, TEXT);
  equal([one.violations, other.violations], [[], []]);
});
