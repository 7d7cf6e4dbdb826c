/** Asks the gateway why its sockets don't open: a browser says nothing about a refused WebSocket. */

import { PROTOCOL } from "./codecs.js";
import { isPage } from "./socket_creator.js";

const TIMEOUT_MS = 5_000;
const ASK_EVERY_MS = 30_000;
/** After this number of openings in a row that never got `ready`, the gateway is asked. */
const FAILED_OPENINGS = 2;

export class GatewayCheck {
  #address;
  #failed = 0;
  #askedAt = -Infinity;
  #reason = null;
  #wasReady = false;
  #opened = false;
  #foreignAnswers = 0;
  /** Whether the last opening got as far as a socket. */
  hadSocket = false;
  /** Whether a gateway of this protocol has answered the last question. */
  answered = false;

  /** @param {string} url the address of the gateway's WebSocket */
  constructor(url) {
    this.#address = addressOf(url);
  }

  /** Why the last openings failed, as far as it is known. */
  get reason() {
    return this.#reason;
  }

  /** Records that a socket was opened: what is there speaks WebSocket, and one of the protocol's versions. */
  onOpen() {
    this.#opened = true;
  }

  /** Records that a socket is ready. */
  onReady() {
    this.#wasReady = true;
    this.#failed = 0;
    this.#reason = null;
    this.#askedAt = -Infinity;
  }

  /**
   * Records a lost socket, or an attempt that didn't get as far as a socket.
   * @param {boolean} wasReady @param {boolean} hadSocket @returns {boolean} whether to `ask` now
   */
  onLost(wasReady, hadSocket) {
    if (wasReady) return false;
    this.hadSocket = hadSocket;
    this.#failed++;
    return this.#failed >= FAILED_OPENINGS && performance.now() - this.#askedAt >= ASK_EVERY_MS && typeof fetch === "function";
  }

  /** Asks. Returns the error with which every socket of this page is refused, or fails; null if there is none. */
  async ask() {
    this.#askedAt = performance.now();
    this.answered = false;
    try {
      const response = await fetch(this.#address, { credentials: "omit", cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
      const answer = await response.json().catch(unlessCut);
      if (answer?.error?.code === "forbidden_origin") return answer.error;
      if (answer?.name === "turnwire" && (answer.protocol ?? PROTOCOL) !== PROTOCOL) return unknownProtocol(answer.protocol);
      this.answered = answer?.name === "turnwire";
      if (this.answered && !this.hadSocket) this.#reason = null; // the credential is what fails
      else if (this.answered) this.#reason = "The gateway answers, but its WebSocket doesn't open: a proxy may block it";
      else if (answer?.error?.message) this.#reason = String(answer.error.message).replace(/\.$/, "");
      else this.#reason = `This address is not a Turnwire gateway (HTTP ${response.status})`;
      if (!this.answered && !answer?.error && this.#isForeign(response.status)) return notAGateway(response.status);
    } catch (error) {
      const code = error?.cause?.code;
      if (!this.#wasReady && CERTIFICATE.test(code)) return untrusted(code);
      this.#reason = "The gateway doesn't answer";
    }
    return null;
  }

  /**
   * Whether something else than a gateway, and than a proxy that waits for one, has this address. For a page, it has to answer
   * twice: a page outlives a proxy that has just lost its way to the gateway.
   */
  #isForeign(status) {
    if (this.#wasReady || this.#opened || status >= 500 || status === 408 || status === 429) return false;
    return !isPage() || ++this.#foreignAnswers > 1;
  }
}

/** Node's codes of certificates that it doesn't trust. */
const CERTIFICATE = /CERT|SELF_SIGNED|UNABLE_TO_(?:GET|VERIFY)|TLS_/;

/** Returns the error for a gateway whose protocol this client doesn't know. */
export function unknownProtocol(protocol) {
  return { code: "unsupported_protocol", message: `This gateway speaks ${protocol}, but this client speaks ${PROTOCOL}. Install the version of the client that belongs to the gateway.` };
}

/** An answer that isn't JSON is one all the same; one that was cut isn't. */
function unlessCut(error) {
  if (error instanceof SyntaxError) return null;
  throw error;
}

function notAGateway(status) {
  return { code: "not_a_gateway", message: `This address is not a Turnwire gateway (HTTP ${status}). Check the URL.` };
}

function untrusted(code) {
  return { code: "untrusted_certificate", message: `The gateway's certificate isn't trusted (${code}). Name the file of its authority in NODE_EXTRA_CA_CERTS.` };
}

/**
 * Returns the address of the service information. It states the page's origin, because a browser doesn't send it with a
 * simple request to the page's own address, and a proxy there may change what the gateway sees.
 */
function addressOf(url) {
  const address = new URL("v1", url);
  address.protocol = address.protocol === "wss:" ? "https:" : "http:";
  if (globalThis.origin) address.searchParams.set("origin", globalThis.origin);
  return address.href;
}
