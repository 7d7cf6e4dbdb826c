/** The requests of the protocol as HTTP requests of one gateway. docs/protocol.md has the addresses. */

import { PROTOCOL } from "./codecs.js";
import { TurnwireError } from "./errors.js";
import { unknownProtocol } from "./gateway_check.js";

const TIMEOUT_MS = 30_000;

/** The method and the path below `/v1/` of each request. The fields in braces are part of the path. */
const ADDRESSES = {
  "turn.get": ["GET", "turns/{turn}"],
  "turn.estimate": ["POST", "turns/estimate"],
  "conversation.list": ["GET", "conversations"],
  "conversation.create": ["POST", "conversations"],
  "conversation.get": ["GET", "conversations/{conversation}"],
  "conversation.update": ["PATCH", "conversations/{conversation}"],
  "conversation.delete": ["DELETE", "conversations/{conversation}"],
  "conversation.messages": ["GET", "conversations/{conversation}/messages"],
  "conversation.clear": ["DELETE", "conversations/{conversation}/context"],
  "feedback.put": ["POST", "messages/{message}/feedback"],
  "usage.get": ["GET", "usage"],
  "models.list": ["GET", "models"],
};

/** The gateway or the way to it is gone, as when a socket is lost. `code` is the close code that a socket would have had. */
export class Lost extends Error {
  /** @param {number} code @param {string} [reason] @param {object} [error] the error that refuses every connection */
  constructor(code, reason = "", error = undefined) {
    super(reason);
    Object.assign(this, { code, error });
  }
}

export class HttpRequests {
  /** The credential that is sent with each request. */
  token;
  #base;
  #aborted = new AbortController();

  /** @param {string} url the address of the gateway's WebSocket @param {string} [token] */
  constructor(url, token) {
    this.#base = new URL("v1/", url);
    this.#base.protocol = this.#base.protocol === "wss:" ? "https:" : "http:";
    this.#base.search = "";
    this.token = token;
  }

  /** Aborts everything that is under way. */
  close() {
    this.#aborted.abort();
  }

  /** Returns what a `ready` frame says. @throws {Lost} the gateway can't be reached, or refuses this client */
  async open() {
    const [about, models] = await Promise.all([this.#about(), this.send({ type: "models.list" }).catch(modelsRefused)]);
    const user = about.auth === "none" ? "local" : null;
    const limits = { frame_bytes: 20 * 2 ** 20, input_bytes: 20 * 2 ** 20, turns: 64 };
    return {
      type: "ready", protocol: about.protocol, connection: "http", instance: about.instance, user, heartbeat_s: 15,
      default_model: models.default, limits,
    };
  }

  /** Answers a request that has an address. @throws {TurnwireError | Lost} */
  async send({ type, ...fields }) {
    if (!Object.hasOwn(ADDRESSES, type)) {
      throw new TurnwireError({ code: "unsupported", message: `The request “${type}” isn't possible over HTTP. Use a WebSocket.` });
    }
    const [method, template] = ADDRESSES[type];
    const path = template.replace(/\{(\w+)\}/, (_, name) => {
      const value = fields[name];
      delete fields[name];
      return segment(value, name);
    });
    const response = await this.fetch(method, path, fields);
    const result = await response.json().catch(asLost);
    if (type !== "models.list") return result;
    return { models: result.models, default: result.default };
  }

  /** Measures the way to the gateway. @throws {Lost} */
  async ping() {
    await this.#about();
    return { t: Date.now() };
  }

  /**
   * Sends a request. Returns the response, if its status is one of success.
   * @throws {TurnwireError | Lost} the gateway refuses the request; or it can't be reached
   */
  async fetch(method, path, fields = {}, headers = {}, signal = AbortSignal.timeout(TIMEOUT_MS)) {
    const url = new URL(path, this.#base);
    const hasBody = method === "POST" || method === "PATCH";
    if (!hasBody) for (const [name, value] of Object.entries(fields)) if (value != null) url.searchParams.set(name, value);
    const options = {
      method, cache: "no-store", credentials: "omit", signal: AbortSignal.any([signal, this.#aborted.signal]),
      headers: { ...headers, ...(hasBody && { "content-type": "application/json" }), ...(this.token && { authorization: `Bearer ${this.token}` }) },
      ...(hasBody && { body: JSON.stringify(fields) }),
    };
    const response = await fetch(url, options).catch(asLost);
    if (!response.ok) throw await refusal(response);
    return response;
  }

  async #about() {
    const query = globalThis.document && globalThis.origin ? `?origin=${encodeURIComponent(globalThis.origin)}` : "";
    const response = await this.fetch("GET", `../v1${query}`);
    const about = await response.json().catch(() => null);
    if (about?.name !== "turnwire") throw new Lost(0, `This address is not a Turnwire gateway (HTTP ${response.status})`);
    if (about.protocol !== PROTOCOL) throw new Lost(0, "", unknownProtocol(about.protocol));
    return about;
  }
}

function segment(value, name) {
  if (typeof value !== "string" || /^\.{0,2}$/.test(value)) {
    throw new TurnwireError({ code: "invalid_request", message: `\`${name}\` isn't an id. Send the id of the ${name}.`, path: name });
  }
  return encodeURIComponent(value);
}

function asLost(cause) {
  throw Object.assign(new Lost(1006), { cause });
}

/** A credential without the right to list the models can start turns all the same. */
function modelsRefused(error) {
  if (error.code === "forbidden") return { default: "" };
  throw error;
}

/** Returns the error of a response whose status isn't one of success. */
async function refusal(response) {
  const answer = await response.json().catch(() => null);
  const error = answer?.error;
  if (typeof error?.code !== "string") {
    if (response.status >= 500 || response.status === 408 || response.status === 429) return new Lost(1006, `HTTP ${response.status} from a proxy`);
    const message = `The gateway's address answered HTTP ${response.status}, and not as a gateway. Check the address and the proxy.`;
    return new TurnwireError({ code: "unavailable", message, retryable: true });
  }
  if (error.code === "unauthenticated") return new Lost(4401);
  if (error.code === "shutting_down") return new Lost(4503);
  if (error.code === "forbidden_origin") return new Lost(0, "", error);
  return Object.assign(new TurnwireError(error), { wire: error });
}
