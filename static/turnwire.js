/**
 * Turnwire's client for browsers: one WebSocket, many turns. No dependency, no build step; types in turnwire.d.ts.
 *
 *     import { connect } from "./turnwire.js";
 *
 *     const connection = connect();                        // the gateway beside this page; or {url: "wss://…/ws"}
 *     const turn = connection.start({ input: "Why is the sky blue?", signal: AbortSignal.timeout(60_000) });
 *     for await (const event of turn) {                    // every event, the last one is the ending …
 *       if (event.type === "turn.delta") show(event.text);
 *     }
 *     const message = await turn;                          // … or just the message: {text, parts, usage, timing, …}
 *     await turn.cancel();                                 // a stopped turn resolves with what was said until then
 *
 *     const chat = connection.conversation(turn.conversation);
 *     chat.addEventListener("turn", ({ detail }) => …);    // turns that other devices start in it
 *     await chat.attach();                                 // attach first, then read: nothing falls in between
 *     for await (const message of chat.messages()) …       // pages are asked for as they are needed
 *     await connection.request("ping");                    // and every request of the protocol
 *
 * What it does by itself:
 * - A lost socket is opened again with full jitter; at once when the network or the page comes back or the gateway
 *   says so. Every running turn goes on from its position, every attached conversation is attached again.
 * - A turn's text is kept whole whatever happens to the socket. `turn.reset` starts the message over, `turn.detached`
 *   is attached again, and where the gateway keeps no more events the turn fails with `gone` and `stored_message`.
 * - A frame that breaks the contract (laws 1 and 2) fails its turn, is logged, and is sent as a `violation` event.
 * - `token` and `ticket` are functions, asked anew for every opening and when the credential expires.
 * - After a reload, `connection.recall()` gives the turns that this tab had running, from their first event on.
 *
 * To look inside: `wire` sees every frame in and out with its bytes, `connection.traffic` sums them. To try what it
 * withstands: `drop()`, `offline()`, `pauseReading(ms)` (how: client/worker_socket.js), `switchCodec("msgpack")`.
 */

import { codecs } from "./client/codecs.js";
import { Connection } from "./client/connection.js";
import { Conversation } from "./client/conversation.js";
import { LawViolation, TurnwireError } from "./client/errors.js";
import { arrivedAt } from "./client/event_queue.js";
import { Turn } from "./client/turn.js";

export { arrivedAt, codecs, Connection, Conversation, LawViolation, Turn, TurnwireError };

const SOCKET_SCHEMES = new Set(["ws:", "wss:"]);

/**
 * Opens a connection and keeps it open.
 * @param {import("./turnwire.js").ConnectOptions} [options]
 * @returns {Connection}
 * @throws {TurnwireError} `invalid_url`: no socket can ever be opened there
 */
export function connect({ url = socketUrl(), ...options } = {}) {
  const { protocol, hash, href } = URL.canParse(url) ? new URL(url) : {};
  if (!SOCKET_SCHEMES.has(protocol) || hash) {
    throw new TurnwireError({ code: "invalid_url", message: `No socket can be opened at “${url}”. Give an address like wss://gateway.example/ws.` });
  }
  return new Connection({ url: href, ...options });
}

/** The gateway's socket beside this page: same origin, path `ws` relative to the page, so that a path prefix works. */
export function socketUrl(page = location.href) {
  const url = new URL("ws", page);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.search = url.hash = "";
  return url.href;
}
