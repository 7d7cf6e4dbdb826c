import { equal, live, next, ok, refused, test, until } from "./harness.js";

const ready = { ready: {} };

function counted(word) {
  const give = async () => `${word} ${++give.asked}`;
  give.asked = 0;
  return give;
}

test("a token is the first frame, asked anew for every opening, and not shown on the wire", async (stage) => {
  const wire = [];
  const opening = [{ expect: "auth" }, ready];
  const gateway = await stage.scripted([...opening, { close: 4501 }], opening);
  const connection = stage.connect(gateway, { token: counted("token"), wire: ({ frame }) => wire.push(frame) });
  await next(connection, "state", ({ state }) => state === "waiting");
  connection.retryNow();
  await live(connection);
  equal((await stage.seen(gateway)).map(({ frames }) => frames[0]), [1, 2].map((n) => ({ type: "auth", token: `token ${n}` })));
  ok(!JSON.stringify(wire).includes("token 1"), "the wire view has no token");
});

test("a ticket goes into the address, a new one for every opening", async (stage) => {
  const gateway = await stage.scripted([ready, { close: 4502 }], [ready]);
  const connection = stage.connect(gateway, { ticket: counted("ticket") });
  await next(connection, "state", ({ state }) => state === "waiting");
  await live(connection);
  equal((await stage.seen(gateway)).map(({ query }) => query), [{ ticket: "ticket 1" }, { ticket: "ticket 2" }]);
});

test("auth.expiring: a token is renewed on the socket, a ticket by another socket", async (stage) => {
  const expiring = { send: { type: "auth.expiring", expires_at: "2030-01-01T00:00:00.000Z" } };
  const renewed = await stage.scripted([{ expect: "auth" }, ready, expiring, { expect: "auth", answer: { user: "local" } }]);
  const one = stage.connect(renewed, { token: counted("token") });
  await until(async () => (await stage.seen(renewed))[0]?.frames.length === 2, "it is renewed");
  equal((await stage.seen(renewed))[0].frames[1].token, "token 2");
  equal([one.state.state, one.traffic.sockets], ["live", 1]);

  const reopened = await stage.scripted([ready, expiring], [ready]);
  const other = stage.connect(reopened, { ticket: counted("ticket") });
  await until(async () => (await stage.seen(reopened)).length === 2, "there is another socket");
  await live(other);
});

test("an expired credential is replaced once, and then it is over", async (stage) => {
  const gateway = await stage.scripted([{ expect: "auth" }, ready, { close: 4401 }], [{ expect: "auth" }, { close: 4401 }]);
  const connection = stage.connect(gateway, { token: counted("token") });
  const closed = await next(connection, "state", ({ state }) => state === "closed");
  equal([closed.code, (await stage.seen(gateway)).length], [4401, 2]);
  const bare = stage.connect(await stage.scripted([ready, { close: 4401 }]));
  equal((await next(bare, "state", ({ state }) => state === "closed")).code, 4401);
});

test("a ticket that can't be had now is asked for again; one that is refused ends it", async (stage) => {
  const gateway = await stage.scripted([ready]);
  let asked = 0;
  const { warn } = console;
  console.warn = () => {};
  const ticket = async () => {
    if (++asked === 1) throw new TypeError("Failed to fetch");
    return "good";
  };
  const connection = stage.connect(gateway, { ticket });
  await live(connection);
  console.warn = warn;
  equal(asked, 2);
  const refusedBy = () => Promise.reject(Object.assign(new Error("Signed out"), { retryable: false }));
  const out = stage.connect(gateway, { ticket: refusedBy });
  equal((await next(out, "state", ({ state }) => state === "closed")).reason, "Signed out");
  await refused(out.request("ping"), "connection_closed");
});
