/**
 * The Turnwire client for browsers and Node: one WebSocket, many turns. No dependencies, no build step. Types: turnwire.d.ts.
 *
 *     import { connect } from "./turnwire.js";
 *
 *     const connection = connect();                        // the gateway of this page, or {url: "wss://…/ws"}
 *     const turn = connection.start({ input: "Why is the sky blue?", signal: AbortSignal.timeout(60_000) });
 *     for await (const event of turn) {                    // every event; the last one is the ending
 *       if (event.type === "turn.delta") show(event.text);
 *     }
 *     const message = await turn;                          // or only the message: {text, parts, usage, timing, …}
 *     await turn.cancel();                                 // a canceled turn resolves with the text so far
 *
 *     const chat = connection.conversation(turn.conversation);
 *     chat.addEventListener("turn", ({ detail }) => …);    // turns that other devices start in it
 *     await chat.attach();                                 // attach before reading, so that nothing is missed
 *     for await (const message of chat.messages()) …       // pages are requested as needed
 *     await connection.request("ping");                    // any request of the protocol
 *
 * What it does automatically:
 * - It reopens a lost socket after a random wait (full jitter), or at once when the network is back or the page is
 *   visible again. After `going_away` it waits as long as the gateway asks. Every running turn continues from its
 *   position, and every attached conversation is attached again.
 * - It keeps a turn's text complete across sockets. `turn.reset` restarts the message. After `turn.detached` the turn
 *   is attached again; if the gateway no longer has its events, the turn fails with `gone` and `stored_message`.
 * - It checks laws 1 and 2. A violation is logged and dispatched as `violation`. If the turn hasn't ended, it fails.
 * - Where a proxy lets no WebSocket through, it uses HTTP (`transport`), until a WebSocket opens again.
 * - It calls `token` or `ticket` for each new socket and shortly before the credential expires.
 * - After a reload, `connection.recall()` follows the running turns that this tab had started or followed, from their
 *   first event. Turns that arrived only because their conversation was attached are not among them.
 *
 * Inspect it: `wire` receives every frame in and out with its size, `connection.traffic` has the totals. Test its
 * recovery: `drop()`, `offline()`, `pauseReading(ms)` (see client/worker_socket.js), `switchCodec("msgpack")`.
 */

import { codecs } from "./client/codecs.js";
import { Connection } from "./client/connection.js";
import { Conversation } from "./client/conversation.js";
import { LawViolation, TurnwireError } from "./client/errors.js";
import { arrivedAt } from "./client/event_queue.js";
import { Turn } from "./client/turn.js";

export { arrivedAt, codecs, Connection, Conversation, LawViolation, Turn, TurnwireError };

const SOCKET_SCHEMES = new Set(["ws:", "wss:"]);
const TRANSPORTS = new Set(["auto", "socket", "http"]);

/**
 * Opens a connection and keeps it open.
 * @param {import("./turnwire.js").ConnectOptions} [options]
 * @returns {Connection}
 * @throws {TurnwireError} `invalid_url`: the URL isn't `ws:` or `wss:`, or has a fragment, or there is none;
 *   `unsupported`: this runtime has no WebSocket, and `transport` is `socket`
 * @throws {TypeError} the codec or the transport is unknown, or a credential is neither a text nor a function
 */
export function connect({ url = pageUrl(), ...options } = {}) {
  const address = URL.canParse(url) ? new URL(url) : null;
  if (!SOCKET_SCHEMES.has(address?.protocol) || address.hash) {
    throw new TurnwireError({ code: "invalid_url", message: `“${url}” isn't a WebSocket URL. Use one such as wss://gateway.example/ws.` });
  }
  if (address.pathname === "/") address.pathname = "/ws";
  const { transport = "auto", socket, webSocket = globalThis.WebSocket } = options;
  if (!TRANSPORTS.has(transport)) throw new TypeError(`Unknown transport "${transport}". Use "auto", "socket" or "http".`);
  if (transport === "socket" && !socket && !webSocket) {
    const message = "This runtime has no WebSocket. Pass one as `webSocket`, for example of the package ws, or let `transport` be \"auto\".";
    throw new TurnwireError({ code: "unsupported", message });
  }
  return new Connection({ ...options, url: address.href, token: credential("token", options.token), ticket: credential("ticket", options.ticket) });
}

/** Returns the function that gives a credential. A token may also be given as a text; a ticket can't, because it opens one socket. */
function credential(name, given) {
  if (given === undefined || given === null || typeof given === "function") return given ?? undefined;
  if (name === "token" && typeof given === "string") return () => given;
  throw new TypeError(`\`${name}\` must be a function that returns ${name === "token" ? "a token, or a token" : "a ticket for each socket"}.`);
}

function pageUrl() {
  if (globalThis.location) return socketUrl();
  throw new TurnwireError({ code: "invalid_url", message: "There is no page here, so pass the gateway's address as `url`, such as wss://gateway.example/ws." });
}

/** Returns the gateway's WebSocket URL for a page: `ws` relative to the page, so that a path prefix works. */
export function socketUrl(page = location.href) {
  const url = new URL("ws", page);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.search = url.hash = "";
  return url.href;
}
