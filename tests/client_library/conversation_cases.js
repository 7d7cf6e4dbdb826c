import { equal, live, next, ok, refused, saying, speech, test, until } from "./harness.js";

const TEXT = speech(150);

/** A tab's storage that outlives its page. */
function storage() {
  const kept = new Map();
  return { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => void kept.set(key, value), kept };
}

test("a conversation that is attached again tells so, and only then: what was said meanwhile can be read", async (stage) => {
  const [here, there] = [stage.connect(await stage.shared()), stage.connect(await stage.shared())];
  const chat = await here.createConversation();
  let again = 0;
  chat.addEventListener("reattached", () => again++);
  await chat.attach();
  here.offline();
  await there.conversation(chat.id).start(saying("said meanwhile", 0));
  equal(again, 0);
  const told = next(chat, "reattached");
  here.online();
  ok((await told).revision > 0);
  equal((await chat.messages().all()).map(({ role }) => role), ["user", "assistant"]);
  equal(again, 1);
});

test("conversations are made, listed, read, changed, cleared and deleted", async (stage) => {
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
  for (let i = 0; i < 5; i++) await chat.start(saying(`answer ${i}`, 0));
  const all = await chat.messages({ limit: 3 }).all();
  equal(all.map(({ role }) => role), Array.from({ length: 10 }, (_, i) => (i % 2 ? "assistant" : "user")));
  equal(all.filter(({ role }) => role === "assistant").map(({ parts }) => parts[0].text), [0, 1, 2, 3, 4].map((i) => `answer ${i}`));
  const newestFirst = [];
  for await (const { id } of chat.messages({ limit: 3 })) {
    newestFirst.push(id);
    if (newestFirst.length === 7) break;
  }
  equal(newestFirst, all.map(({ id }) => id).toReversed().slice(0, 7));
  ok((await chat.usage()).usage.output_tokens > 0, "it cost tokens");
  equal(await chat.clear(), {});
  equal((await chat.get()).head, null);
  for (const one of made) await one.delete();
  await refused(chat.get(), "not_found");
});

test("turns that others start arrive in an attached conversation, also while the socket was away", async (stage) => {
  const gateway = await stage.shared();
  const [one, other] = [stage.connect(gateway), stage.connect(gateway, { codec: "msgpack" })];
  const chat = await one.createConversation({ title: "shared" });
  const seen = other.conversation(chat.id);
  const arrived = [];
  seen.addEventListener("turn", ({ detail }) => arrived.push(detail));
  ok((await seen.attach()).revision >= 0 && seen.attached, "attached");

  const turn = chat.start(saying(TEXT, 400));
  await until(() => arrived.length === 1, "it arrived");
  equal([arrived[0].id, seen.turns.length], [turn.id, 1]);
  other.drop();
  equal((await arrived[0]).text, TEXT);

  other.offline();
  const missed = chat.start(saying(TEXT, 100));
  await until(() => missed.text.length > 50, "it speaks");
  other.online();
  await until(() => arrived.length === 2, "it arrived");
  equal((await arrived[1]).text, TEXT);

  const updated = next(seen, "updated");
  await chat.update({ title: "renamed" });
  const told = await updated;
  equal([told.title, seen.revision], ["renamed", told.revision]);

  await seen.detach();
  await chat.start(saying("unheard", 0));
  equal(arrived.length, 2);
  await seen.attach();
  const deleted = next(seen, "deleted");
  await chat.delete();
  await deleted;
  equal([seen.attached, one.violations, other.violations], [false, [], []]);
  await refused(seen.attach(), "not_found");
});

test("stopping a conversation stops what others started in it", async (stage) => {
  const gateway = await stage.shared();
  const [one, other] = [stage.connect(gateway), stage.connect(gateway)];
  const turn = one.start(saying(speech(2000), 100));
  const { conversation } = await turn.accepted;
  equal(await other.conversation(conversation).cancel("enough"), { turns: { [turn.id]: "cancelled" } });
  equal((await turn).ended, "cancelled");
});

test("after a reload the tab's running turns are there again, from their first event on", async (stage) => {
  const gateway = await stage.shared();
  const tab = storage();
  const before = stage.connect(gateway, { storage: tab });
  const turns = Array.from({ length: 3 }, () => before.start(saying(TEXT, 200)));
  const short = before.start(saying("short", 0));
  await short;
  await until(() => turns.every((turn) => turn.text.length > 50), "they speak");
  before.close();

  const after = stage.connect(gateway, { storage: tab, codec: "msgpack" });
  const again = after.recall();
  equal(again.map(({ id }) => id).sort(), turns.map(({ id }) => id).sort());
  // As a page does it: the conversation is attached at the same time, and both bring the same turn.
  const { conversation } = await turns[0].accepted;
  await after.conversation(conversation).attach();
  for (const turn of again) equal((await turn).text, TEXT);
  equal([after.violations, after.recall()], [[], []]);
  equal([...tab.kept.values()], ["[]"], "what is kept");
  await live(after);
});

test("law 7: attaching a conversation and following its turns at once gives every event once", async (stage) => {
  const gateway = await stage.shared();
  const one = stage.connect(gateway);
  for (let i = 0; i < 5; i++) {
    const other = stage.connect(gateway);
    await live(other);
    const turn = one.start(saying(TEXT, 400));
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

test("a turn that nobody knows fails with not_found", async (stage) => {
  const connection = stage.connect(await stage.shared());
  await refused(connection.follow("t_nobody"), "not_found");
});
