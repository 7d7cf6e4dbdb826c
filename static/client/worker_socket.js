/**
 * A WebSocket that can stop reading, for trying what a slow reader meets (law 11).
 *
 * A page can't tell its WebSocket to stop reading, and leaving messages unhandled only fills the page's own memory.
 * So this one lives in a worker, and pausing blocks the worker's thread: nobody takes messages there, the browser's
 * pipe fills, the browser stops reading the socket, TCP's window closes, and the gateway sees a client that doesn't
 * read. What the buffers on the way hold (some hundred KiB) must fill first. Needs a browser's `Worker`.
 */

const CLOSE_TIMEOUT_MS = 1_000;

/** As much of a WebSocket as a link needs, and `pause`. */
export class WorkerSocket {
  onopen = null;
  onmessage = null;
  onclose = null;
  binaryType = "arraybuffer";
  readyState = 0;
  #worker;
  #paused = [];

  static get supported() {
    return typeof Worker !== "undefined";
  }

  constructor(url, protocols) {
    this.#worker = new Worker(workerUrl(), { type: "module" });
    this.#worker.onmessage = ({ data }) => this.#said(data);
    this.#worker.onerror = () => this.#closed(1006, "");
    this.#worker.postMessage({ open: { url, protocols } });
  }

  send(data) {
    this.#worker.postMessage({ send: data });
  }

  close(code) {
    this.readyState = 2;
    this.#worker.postMessage({ close: code });
    // A thread that is blocked hears nothing.
    setTimeout(() => this.#worker.terminate(), CLOSE_TIMEOUT_MS);
  }

  /** Reads nothing for so long; resolves when it reads again, or is closed. */
  pause(ms) {
    return new Promise((resolve) => {
      this.#paused.push(resolve);
      this.#worker.postMessage({ pause: ms });
    });
  }

  #said(said) {
    if (said.data !== undefined) {
      this.onmessage?.({ data: said.data });
    } else if (said.resumed) {
      this.#paused.shift()?.();
    } else if (said.open) {
      this.readyState = 1;
      this.onopen?.();
    } else {
      this.#closed(said.closed.code, said.closed.reason);
    }
  }

  #closed(code, reason) {
    this.readyState = 3;
    this.#worker.terminate();
    for (const resolve of this.#paused.splice(0)) resolve();
    this.onclose?.({ code, reason });
  }
}

let trusted = null;

/** The worker's address; where a page demands Trusted Types, by a policy named `turnwire` that knows no other. */
function workerUrl() {
  const url = new URL("./socket_worker.js", import.meta.url).href;
  if (!globalThis.trustedTypes) return url;
  trusted ??= trustedTypes.createPolicy("turnwire", { createScriptURL: () => url });
  return trusted.createScriptURL(url);
}
