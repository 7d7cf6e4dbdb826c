import { connect, TurnwireError } from "../../static/turnwire.js";
import { CODECS, demoStart, equal, ok, refused, test, until } from "./harness.js";
import { SECRET, signed } from "./tokens.js";

/** Runs `run` and returns what was reported to the console or to the page meanwhile, without the reports of other cases. */
async function reports(run) {
  const { error } = console;
  const found = [];
  const take = (value) => value?.code === "listener_failed" && found.push(value);
  const onError = (event) => take(event.error) && event.preventDefault();
  console.error = (...values) => take(values[0]) || error(...values);
  globalThis.addEventListener("error", onError);
  try {
    await run(found);
  } finally {
    console.error = error;
    globalThis.removeEventListener("error", onError);
  }
  return found;
}

/** Runs `run` without the errors that a closed connection logs. */
async function quietly(run) {
  const { error } = console;
  console.error = (...values) => String(values[0]).startsWith("turnwire: ") || error(...values);
  try {
    await run();
  } finally {
    console.error = error;
  }
}

test("a server that isn't a gateway, or that speaks a later protocol, is named in the error of everything that waits", async (stage) => {
  await quietly(async () => {
    const expected = [["nowhere", "not_a_gateway", "HTTP 404"], ["future", "unsupported_protocol", "turnwire.v9"]];
    const each = expected.flatMap((one) => ["auto", "http"].map((transport) => [...one, transport]));
    await Promise.all(each.map(async ([path, code, words, transport]) => {
      const connection = stage.connect(stage.foreign(path), { transport });
      const error = await refused(connection.start({ input: "Hi" }), code);
      ok(error instanceof TurnwireError && error.message.includes(words) && error.message.endsWith("."), error.message);
      equal(connection.state.state, "closed");
    }));
  });
});

test("a gateway that says ready in a later protocol is refused", async (stage) => {
  const connection = stage.connect(await stage.scripted([{ ready: { protocol: "turnwire.v9" } }]));
  await refused(connection.start({ input: "Hi" }), "unsupported_protocol");
});

test("an unknown transport is refused, and a runtime without a WebSocket uses HTTP", async (stage) => {
  const gateway = await stage.shared();
  let thrown = null;
  try {
    connect({ url: gateway.url, transport: "pigeon" });
  } catch (error) {
    thrown = error;
  }
  ok(thrown instanceof TypeError && thrown.message.includes('"pigeon"'), String(thrown));
  thrown = null;
  try {
    connect({ url: gateway.url, transport: "socket", webSocket: null });
  } catch (error) {
    thrown = error;
  }
  equal(thrown?.code, "unsupported");
  const connection = stage.connect(gateway, { webSocket: null });
  equal(connection.transport, "http");
  equal((await connection.start(demoStart("Hello."))).text, "Hello.");
});

test("an error in a listener is reported once and changes nothing else", async (stage) => {
  const found = await reports(async (reported) => {
    const connection = stage.connect(await stage.shared());
    const fails = () => {
      throw new RangeError("mine");
    };
    connection.addEventListener("ready", fails);
    connection.addEventListener("ready", fails);
    connection.addEventListener("ready", async () => {
      throw new RangeError("mine too");
    });
    connection.addEventListener("state", { handleEvent: fails }, { once: true });
    equal((await connection.start(demoStart("Hello."))).text, "Hello.");
    await until(() => reported.length === 3, "three errors are reported");
    connection.removeEventListener("ready", fails);
  });
  equal(found.map(({ cause }) => cause.message).sort(), ["mine", "mine", "mine too"]);
  ok(found.every((error) => error instanceof TurnwireError && error.message.includes("A listener of “")), found[0].message);
});

test("an error in a listener of a turn or in the wire observer is reported, and the turn and its other listeners get each event", async (stage) => {
  const gateway = await stage.shared();
  for (const transport of ["socket", "http"]) {
    const found = await reports(async (reported) => {
      let frames = 0;
      const wire = async () => {
        frames++;
        throw new RangeError("mine, of the wire");
      };
      const connection = stage.connect(gateway, { transport, wire });
      const turn = connection.start(demoStart("Hello."));
      let calls = 0;
      turn.subscribe(() => {
        throw new RangeError("mine");
      });
      turn.subscribe(async () => {
        throw new RangeError("mine too");
      });
      turn.subscribe(() => void calls++);
      equal((await turn).text, "Hello.");
      ok(calls >= 4, `${calls} calls`);
      equal(connection.running, []);
      await until(() => reported.length === 2 * calls + frames, "each error is reported");
    });
    ok(found.every(({ cause, message }) => cause.message.startsWith("mine") && /“(wire|turn\.subscribe)”/.test(message)), found[0].message);
  }
});

test("a token may be a text; another credential than a text or a function is refused at once", async (stage) => {
  const gateway = await stage.gateway({ settings: { TURNWIRE_AUTH: "jwt", TURNWIRE_JWT_SECRET: SECRET } });
  const connection = stage.connect(gateway, { token: await signed("ann", 600) });
  equal((await connection.start(demoStart("Hello."))).text, "Hello.");
  for (const wrong of [{ token: { key: "a" } }, { ticket: "a" }]) {
    let thrown = null;
    try {
      connect({ url: gateway.url, ...wrong });
    } catch (error) {
      thrown = error;
    }
    ok(thrown instanceof TypeError && thrown.message.includes(Object.keys(wrong)[0]), String(thrown));
  }
});

test("an address without a path gets that of the gateway's socket", async (stage) => {
  const { url } = await stage.shared();
  const connection = stage.connect({ url: new URL(url).origin.replace(/^http/, "ws") });
  equal((await connection.start(demoStart("Hello."))).text, "Hello.");
  equal(connection.transport, "socket");
});

test("fields that can't be sent fail their turn with invalid_request, and a signal that isn't one starts nothing", async (stage) => {
  const gateway = await stage.shared();
  for (const transport of ["socket", "http"]) {
    for (const codec of transport === "http" ? ["json"] : CODECS) {
      const connection = stage.connect(gateway, { transport, codec });
      const circular = {};
      circular.circular = circular;
      const error = await refused(connection.start({ input: "Hi", metadata: circular }), "invalid_request");
      ok(error.message.endsWith(".") && error.cause instanceof Error, error.message);
      let thrown = null;
      try {
        connection.start({ input: "Hi", signal: "stop" });
      } catch (error) {
        thrown = error;
      }
      ok(thrown instanceof TypeError && thrown.message.includes("AbortSignal"), String(thrown));
      equal(connection.running, []);
    }
  }
});
