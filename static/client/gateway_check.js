/** Asks the gateway why its sockets don't open: a browser says nothing about a refused WebSocket. */

const TIMEOUT_MS = 5_000;
const ASK_EVERY_MS = 30_000;
/** After this number of openings in a row that never got `ready`, the gateway is asked. */
const FAILED_OPENINGS = 2;

export class GatewayCheck {
  #address;
  #failed = 0;
  #askedAt = -Infinity;
  #reason = null;
  #hadSocket = false;

  /** @param {string} url the address of the gateway's WebSocket */
  constructor(url) {
    this.#address = addressOf(url);
  }

  /** Why the last openings failed, as far as it is known. */
  get reason() {
    return this.#reason;
  }

  /** Records that a socket is ready. */
  onReady() {
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
    this.#hadSocket = hadSocket;
    this.#failed++;
    return this.#failed >= FAILED_OPENINGS && performance.now() - this.#askedAt >= ASK_EVERY_MS && typeof fetch === "function";
  }

  /** Asks. Returns the error with which the gateway refuses every socket of this page; null if there is none. */
  async ask() {
    this.#askedAt = performance.now();
    try {
      const response = await fetch(this.#address, { credentials: "omit", cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
      const answer = await response.json().catch(() => null);
      if (answer?.error?.code === "forbidden_origin") return answer.error;
      if (answer?.name === "turnwire" && !this.#hadSocket) this.#reason = null; // the credential is what fails
      else if (answer?.name === "turnwire") this.#reason = "The gateway answers, but its WebSocket doesn't open: a proxy may block it";
      else if (answer?.error?.message) this.#reason = String(answer.error.message).replace(/\.$/, "");
      else this.#reason = `This address is not a Turnwire gateway (HTTP ${response.status})`;
    } catch {
      this.#reason = "The gateway doesn't answer";
    }
    return null;
  }
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
