import { equal, live, next, ok, refused, demoStart, sampleText, test, until } from "./harness.js";
import { SECRET, signed } from "./tokens.js";

const ready = { ready: {} };

/** Returns a function that gives `word 1`, `word 2` and so on, and counts its calls in `asked`. */
function counted(word) {
  const give = async () => `${word} ${++give.asked}`;
  give.asked = 0;
  return give;
}

test("a token is the first frame, requested for every opening, and not shown to the wire observer", async (stage) => {
  const wire = [];
  const opening = [{ expect: "auth" }, ready];
  const gateway = await stage.scripted([...opening, { close: 4501 }], opening);
  const connection = stage.connect(gateway, { token: counted("token"), wire: ({ frame }) => wire.push(frame) });
  await next(connection, "state", ({ state }) => state === "waiting");
  connection.retryNow();
  await live(connection);
  equal((await stage.seen(gateway)).map(({ frames }) => frames[0]), [1, 2].map((n) => ({ type: "auth", token: `token ${n}` })));
  ok(!/token [12]/.test(JSON.stringify(wire)), "the wire observer gets no token");
});

test("a ticket is part of the URL, a new one for every opening", async (stage) => {
  const gateway = await stage.scripted([ready, { close: 4502 }], [ready]);
  const connection = stage.connect(gateway, { ticket: counted("ticket") });
  await next(connection, "state", ({ state }) => state === "waiting");
  await live(connection);
  equal((await stage.seen(gateway)).map(({ query }) => query), [{ ticket: "ticket 1" }, { ticket: "ticket 2" }]);
});

test("auth.expiring: the credential is renewed on the socket, and never shown to the wire observer", async (stage) => {
  const expiring = { send: { type: "auth.expiring", expires_at: "2030-01-01T00:00:00.000Z" } };
  for (const kind of ["token", "ticket"]) {
    const first = kind === "token" ? [{ expect: "auth" }] : [];
    const gateway = await stage.scripted([...first, ready, expiring, { expect: "auth", answer: { user: "local" } }]);
    const wire = [];
    const connection = stage.connect(gateway, { [kind]: counted(kind), wire: ({ frame }) => wire.push(frame) });
    const renewal = await until(async () => (await stage.seen(gateway))[0]?.frames[first.length], "the credential is renewed");
    equal([renewal.type, renewal.token], ["auth", `${kind} 2`]);
    equal([connection.state.state, connection.traffic.sockets], ["live", 1]);
    ok(!JSON.stringify(wire).includes(`${kind} 2`), "the wire observer gets no credential");
  }
});

// A credential lives for 12 s and is renewed after 2 s, so a renewal has 10 s on a busy machine. The turn lasts 15 s. Without a
// renewal, the gateway would close the socket earlier: after 13 s at most, and the grace period of 1 s.
const LIFE_S = 12;
const JWT = { TURNWIRE_AUTH: "jwt", TURNWIRE_JWT_SECRET: SECRET, TURNWIRE_AUTH_WARNING_S: "10", TURNWIRE_AUTH_GRACE_S: "1" };

test("with JWT auth, tokens and tickets are accepted and renewed, and a turn outlives its first credential", async (stage) => {
  const gateway = await stage.gateway({ settings: { TURNWIRE_AUTH: "jwt", TURNWIRE_JWT_SECRET: SECRET } });
  let tokens = 0;
  const token = () => {
    tokens++;
    return signed("ann", LIFE_S);
  };
  const tickets = `${gateway.url.replace("ws", "http").replace(/\/ws$/, "")}/v1/tickets`;
  const ticket = async () => {
    const answer = await fetch(tickets, { method: "POST", headers: { authorization: `Bearer ${await signed("ann", LIFE_S)}` } });
    return (await answer.json()).ticket;
  };
  const socket = withOrigin(gateway);
  const one = stage.connect(gateway, { token, socket });
  const other = stage.connect(gateway, { ticket, socket, codec: "msgpack" });
  await live(one);
  equal(one.state.ready.user, "ann");
  const text = sampleText(750);
  const turn = one.start(demoStart(text, 50));
  await turn.accepted;
  const followed = other.follow(turn.id);
  equal([(await turn).text, (await followed).text], [text, text]);
  equal([one, other].map(({ traffic, violations }) => [traffic.sockets, violations]), [[1, []], [1, []]]);
  ok(tokens > 1, `${tokens} tokens`);
  const stranger = stage.connect(gateway, { token: () => signed("bob", 60), socket });
  await refused(stranger.follow(turn.id), "not_found");
});

test("an expired credential is replaced once, then the connection is closed", async (stage) => {
  const gateway = await stage.scripted([{ expect: "auth" }, ready, { close: 4401 }], [{ expect: "auth" }, { close: 4401 }]);
  const connection = stage.connect(gateway, { token: counted("token") });
  const closed = await next(connection, "state", ({ state }) => state === "closed");
  equal([closed.code, (await stage.seen(gateway)).length], [4401, 2]);
  const bare = stage.connect(await stage.scripted([ready, { close: 4401 }]));
  equal((await next(bare, "state", ({ state }) => state === "closed")).code, 4401);
});

test("a ticket request is repeated after a network error; after a refusal the connection is closed", async (stage) => {
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

/** A browser sends the page's origin by itself; Node has to set it. */
function withOrigin({ url }) {
  if (globalThis.document) return undefined;
  const { host } = new URL(url);
  return (address, protocols) => new WebSocket(address, { protocols, headers: { origin: `http://${host}` } });
}

test("a start that is sent over HTTP, and whose credential is refused, fails with unauthenticated", async (stage) => {
  const gateway = await stage.gateway({ settings: { TURNWIRE_AUTH: "jwt", TURNWIRE_JWT_SECRET: SECRET } });
  let token = await signed("ann", 600);
  const connection = stage.connect(gateway, { token: () => token });
  equal((await connection.start(demoStart("Hello."))).text, "Hello.");
  token = "wrong";
  const large = connection.start({ ...demoStart("Hello."), input: "x".repeat(100_000) });
  const { message, retryable } = await refused(large, "unauthenticated");
  equal([message, retryable], ["Sign-in is missing or has expired.", false]);
  equal(connection.state.state, "live");
});
