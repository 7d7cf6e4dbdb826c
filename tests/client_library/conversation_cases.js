import { equal, live, next, ok, refused, demoStart, sampleText, test, until } from "./harness.js";

const TEXT = sampleText(150);

/** A tab's session storage, which outlives its page. */
function storage() {
  const kept = new Map();
  return { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => void kept.set(key, value), kept };
}

test("a conversation fires reattached after a reconnect only, and the messages sent meanwhile can be read", async (stage) => {
  const [here, there] = [stage.connect(await stage.shared()), stage.connect(await stage.shared())];
  const chat = await here.createConversation();
  let again = 0;
  chat.addEventListener("reattached", () => again++);
  await chat.attach();
  here.offline();
  await there.conversation(chat.id).start(demoStart("said meanwhile", 0));
  equal(again, 0);
  const reattached = next(chat, "reattached");
  here.online();
  ok((await reattached).revision > 0);
  equal((await chat.messages().all()).map(({ role }) => role), ["user", "assistant"]);
  equal(again, 1);
});

test("changes of the list arrive, also on later sockets, until it is detached", async (stage) => {
  const [here, there] = [stage.connect(await stage.shared()), stage.connect(await stage.shared(), { codec: "msgpack" })];
  const changes = [];
  here.addEventListener("conversations", ({ detail }) => changes.push(detail));
  await here.attachConversations();
  const chat = await there.createConversation({ title: "One" });
  const changed = (state) => changes.some((change) => Object.entries({ conversation: chat.id, ...state }).every(([key, value]) => change[key] === value));
  await until(() => changed({ change: "changed", title: "One", revision: 0 }));
  here.drop();
  await until(() => changed({ conversation: null, change: "reattached" }));
  ok((await chat.update({ pinned: true })).pinned);
  await until(() => changed({ pinned: true, revision: 1 }));
  ok((await there.conversations({ pinned: true }).all()).some(({ id }) => id === chat.id));
  const cut = await chat.start({ ...demoStart(TEXT, 0), params: { demo: { text: TEXT, rate: 0, fail: "length", fail_after: 20 } } });
  equal((await chat.start({ parent: cut.id, continue: true, params: demoStart(TEXT, 0).params })).text, TEXT);
  await chat.delete();
  await until(() => changed({ change: "deleted" }));
  await here.detachConversations();
  const seen = changes.length;
  await there.createConversation({ title: "Two" });
  await here.ping();
  equal(changes.filter(({ title }) => title === "Two"), []);
  ok(changes.length >= seen);
});

test("conversations are created, listed, read, updated, cleared and deleted", async (stage) => {
  const connection = stage.connect(await stage.shared(), { codec: "msgpack" });
  const title = `Shelf ${Math.random()}`;
  const made = await Promise.all(Array.from({ length: 5 }, (_, i) => connection.createConversation({ title: `${title} ${i}` })));
  const listed = [];
  for await (const { id } of connection.conversations({ query: title, limit: 2 })) listed.push(id);
  equal(listed.sort(), made.map(({ id }) => id).sort());
  const pages = [];
  for await (const page of connection.conversations({ query: title, limit: 2 }).pages()) pages.push(page.conversations.length);
  equal(pages, [2, 2, 1]);

  const [chat] = made;
  ok(connection.conversation(chat.id) === chat, "one object for one id");
  equal((await chat.update({ title: "Renamed", system: "Be brief." })).title, "Renamed");
  const { head } = await chat.get();
  equal(head, null);
  for (let i = 0; i < 5; i++) await chat.start(demoStart(`answer ${i}`, 0));
  const all = await chat.messages({ limit: 3 }).all();
  equal(all.map(({ role }) => role), Array.from({ length: 10 }, (_, i) => (i % 2 ? "assistant" : "user")));
  equal(all.filter(({ role }) => role === "assistant").map(({ parts }) => parts[0].text), [0, 1, 2, 3, 4].map((i) => `answer ${i}`));
  const newestFirst = [];
  for await (const { id } of chat.messages({ limit: 3 })) {
    newestFirst.push(id);
    if (newestFirst.length === 7) break;
  }
  equal(newestFirst, all.map(({ id }) => id).toReversed().slice(0, 7));
  ok((await chat.usage()).usage.output_tokens > 0, "the usage has tokens");
  equal(await chat.clear(), {});
  equal((await chat.get()).head, null);
  for (const one of made) await one.delete();
  await refused(chat.get(), "not_found");
});

test("a conversation can have an id of the client's own, and is created once", async (stage) => {
  const proxy = await stage.proxy(await stage.shared());
  const connection = stage.connect(proxy);
  const [mine, other] = [`mine-${Math.random()}`, `other-${Math.random()}`];
  const chat = await connection.createConversation({ conversation: mine, title: "First" });
  equal([chat.id, chat === connection.conversation(mine)], [mine, true]);
  await connection.createConversation({ conversation: mine, title: "Second" });
  equal((await chat.get()).title, "First");

  await refused(connection.conversation(other).start(demoStart("no", 0)), "not_found");
  for (const text of ["one", "two"]) await connection.conversation(other).start({ ...demoStart(text, 0), create: true });
  equal((await connection.conversation(other).get()).messages, 4);

  await live(connection);
  const repeated = connection.createConversation({ conversation: `${mine}-2` });
  const lost = connection.createConversation();
  connection.drop();
  await refused(lost, "connection_lost");
  equal((await repeated).id, `${mine}-2`, "it is sent again on the next socket");
});

test("an attached conversation gets the turns of other clients, also those started while its connection was offline", async (stage) => {
  const gateway = await stage.shared();
  const [one, other] = [stage.connect(gateway), stage.connect(gateway, { codec: "msgpack" })];
  const chat = await one.createConversation({ title: "shared" });
  const seen = other.conversation(chat.id);
  const arrived = [];
  seen.addEventListener("turn", ({ detail }) => arrived.push(detail));
  ok((await seen.attach()).revision >= 0 && seen.attached, "attached");

  const turn = chat.start(demoStart(TEXT, 400));
  await until(() => arrived.length === 1, "it arrived");
  equal([arrived[0].id, seen.turns.length], [turn.id, 1]);
  other.drop();
  equal((await arrived[0]).text, TEXT);

  other.offline();
  const missed = chat.start(demoStart(TEXT, 100));
  await until(() => missed.text.length > 50, "the turn has text");
  other.online();
  await until(() => arrived.length === 2, "it arrived");
  equal((await arrived[1]).text, TEXT);

  const updated = next(seen, "updated");
  await chat.update({ title: "renamed" });
  const update = await updated;
  equal([update.title, seen.revision], ["renamed", update.revision]);

  await seen.detach();
  await chat.start(demoStart("unheard", 0));
  equal(arrived.length, 2);
  await seen.attach();
  const deleted = next(seen, "deleted");
  await chat.delete();
  await deleted;
  equal([seen.attached, one.violations, other.violations], [false, [], []]);
  await refused(seen.attach(), "not_found");
});

test("cancelling a conversation cancels the turns that other clients started in it", async (stage) => {
  const gateway = await stage.shared();
  const [one, other] = [stage.connect(gateway), stage.connect(gateway)];
  const turn = one.start(demoStart(sampleText(2000), 100));
  const { conversation } = await turn.accepted;
  equal(await other.conversation(conversation).cancel("enough"), { turns: { [turn.id]: "cancelled" } });
  equal((await turn).ended, "cancelled");
});

test("after a reload the tab's live turns are recalled and replayed from their first event", async (stage) => {
  const gateway = await stage.shared();
  const tab = storage();
  const before = stage.connect(gateway, { storage: tab });
  const turns = Array.from({ length: 3 }, () => before.start(demoStart(TEXT, 200)));
  const short = before.start(demoStart("short", 0));
  await short;
  await until(() => turns.every((turn) => turn.text.length > 50), "all turns have text");
  before.close();

  const after = stage.connect(gateway, { storage: tab, codec: "msgpack" });
  const again = after.recall();
  equal(again.map(({ id }) => id).sort(), turns.map(({ id }) => id).sort());
  // As in the page, the conversation is attached at the same time, and both requests attach to the same turn.
  const { conversation } = await turns[0].accepted;
  await after.conversation(conversation).attach();
  for (const turn of again) equal((await turn).text, TEXT);
  equal([after.violations, after.recall()], [[], []]);
  equal([...tab.kept.values()], ["[]"], "the stored turns");
  await live(after);
});

test("law 7: attaching a conversation and following its turn at the same time delivers every event once", async (stage) => {
  const gateway = await stage.shared();
  const one = stage.connect(gateway);
  for (let i = 0; i < 5; i++) {
    const other = stage.connect(gateway);
    await live(other);
    const turn = one.start(demoStart(TEXT, 400));
    const { conversation } = await turn.accepted;
    const attaching = i % 2 ? null : other.conversation(conversation).attach();
    const followed = other.follow(turn.id);
    await (attaching ?? other.conversation(conversation).attach());
    other.drop();
    equal((await followed).text, TEXT);
    equal(other.violations, []);
    await turn;
  }
});

test("following an unknown turn fails with not_found", async (stage) => {
  const connection = stage.connect(await stage.shared());
  await refused(connection.follow("t_nobody"), "not_found");
});
