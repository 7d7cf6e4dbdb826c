/**
 * A program that uses the installed package: `node program.js GATEWAY GUARDED TOKEN UNTRUSTED`, with the addresses of a gateway
 * without auth, of one that needs the token, and of one whose certificate isn't trusted. It writes one JSON line.
 */

import { connect, LawViolation, TurnwireError } from "turnwire";
import { WebSocket as Ws } from "ws";

const [url, guarded, token, untrusted] = process.argv.slice(2);
const found = { node: process.versions.node.split(".")[0], hasWebSocket: typeof WebSocket === "function", answers: {}, errors: {} };

const fields = { input: "Speak", params: { demo: { text: "One two three.", rate: 100 } } };
const ways = { default: {}, ws: { webSocket: Ws }, "ws, msgpack": { webSocket: Ws, codec: "msgpack" }, http: { transport: "http" } };
for (const [name, options] of Object.entries(ways)) {
  const connection = connect({ url, ...options });
  connection.addEventListener("ready", async () => {
    throw new Error("a listener's own");
  });
  const texts = [];
  const turn = connection.start(fields);
  for await (const event of turn) if (event.type === "turn.delta") texts.push(event.text);
  found.answers[name] = [texts.join(""), (await turn).text, connection.transport];
  connection.close();
}
for (const [name, options] of Object.entries({ "ws, token": { webSocket: Ws }, "default, token": {}, "http, token": { transport: "http" } })) {
  const connection = connect({ url: guarded, token: async () => token, ...options });
  found.answers[name] = [(await connection.start(fields)).text, connection.transport];
  connection.close();
}

/** Records the error with which a connection of these options fails. */
async function fails(name, options) {
  try {
    const connection = connect({ webSocket: Ws, ...options });
    connection.start(fields).catch(() => {}); // a turn that nobody awaits fails without a word
    await connection.start(fields);
  } catch (error) {
    found.errors[name] = [error.code, error.message, error instanceof TurnwireError && !(error instanceof LawViolation)];
  }
}

await fails("no url", {});
await fails("no scheme", { url: "gateway.example" });
await fails("no WebSocket", { url, transport: "socket", webSocket: null });
await fails("certificate", { url: untrusted });
await fails("certificate, http", { url: untrusted, transport: "http" });
await fails("wrong token", { url: guarded, token: () => "wrong" });
await fails("wrong token, socket", { url: guarded, token: () => "wrong", transport: "socket" });
await fails("signed out", { url: guarded, token: () => Promise.reject(Object.assign(new Error("Signed out."), { retryable: false })) });
console.log(JSON.stringify(found));
process.exitCode = 0;
