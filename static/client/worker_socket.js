/**
 * A WebSocket that can stop reading, to test how the gateway treats a slow reader (law 11).
 *
 * A page can't stop its WebSocket from reading: unhandled messages only fill the page's memory. This socket lives in a
 * worker, and pausing blocks the worker's thread. The browser's pipe fills, the browser stops reading, TCP's window
 * closes, and the gateway sees a client that doesn't read. The buffers in between hold a few hundred KiB, which must
 * fill first. The class needs a browser's `Worker`.
 */

const CLOSE_TIMEOUT_MS = 1_000;

/** The part of the WebSocket interface that ReconnectingSocket uses, and `pause`. */
export class WorkerSocket {
  onopen = null;
  onmessage = null;
  onclose = null;
  binaryType = "arraybuffer";
  readyState = 0;
  #worker;
  #resumeCallbacks = [];

  static get supported() {
    return typeof Worker !== "undefined";
  }

  constructor(url, protocols) {
    this.#worker = new Worker(workerScriptUrl(), { type: "module" });
    this.#worker.onmessage = ({ data }) => this.#onWorkerMessage(data);
    this.#worker.onerror = () => this.#onClosed(1006, "");
    this.#worker.postMessage({ open: { url, protocols } });
  }

  send(data) {
    this.#worker.postMessage({ send: data });
  }

  close(code) {
    this.readyState = 2;
    this.#worker.postMessage({ close: code });
    // A thread that `pause` blocks can't handle the command, so the worker is ended in any case.
    setTimeout(() => this.#terminate(), CLOSE_TIMEOUT_MS);
  }

  /** Stops reading for `ms` milliseconds. Resolves when it reads again or is closed. */
  pause(ms) {
    return new Promise((resolve) => {
      this.#resumeCallbacks.push(resolve);
      this.#worker.postMessage({ pause: ms });
    });
  }

  #onWorkerMessage(message) {
    if (message.data !== undefined) {
      this.onmessage?.({ data: message.data });
    } else if (message.resumed) {
      this.#resumeCallbacks.shift()?.();
    } else if (message.open) {
      this.readyState = 1;
      this.onopen?.();
    } else {
      this.#onClosed(message.closed.code, message.closed.reason);
    }
  }

  #onClosed(code, reason) {
    this.readyState = 3;
    this.#terminate();
    this.onclose?.({ code, reason });
  }

  #terminate() {
    this.#worker.terminate();
    for (const resolve of this.#resumeCallbacks.splice(0)) resolve();
  }
}

/** Where the page keeps its Trusted Types policy, because a policy's name may be used only once. */
const POLICY = Symbol.for("turnwire.policy");
/** The address of the script of this worker. */
let ownWorker = null;
const WORKER = /\/(?:client\/socket|markdown\/highlight)_worker\.js$/;

/** Returns the worker script's URL. Under Trusted Types it uses a policy named `turnwire` that allows only worker scripts. */
function workerScriptUrl() {
  ownWorker ??= sameOrigin(new URL("./socket_worker.js", import.meta.url).href);
  const url = ownWorker;
  if (!globalThis.trustedTypes) return url;
  globalThis[POLICY] ??= trustedTypes.createPolicy("turnwire", { createScriptURL: checkWorkerUrl });
  return globalThis[POLICY].createScriptURL(url);
}

/** A bundler may put the script itself into its address. Such a worker would state no origin, so it gets an address of the page. */
function sameOrigin(url) {
  if (!url.startsWith("data:")) return url;
  const [kind, code] = url.split(/,(.*)/s);
  const script = kind.endsWith(";base64") ? atob(code) : decodeURIComponent(code);
  return URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
}

function checkWorkerUrl(url) {
  if (url !== ownWorker && !WORKER.test(new URL(url).pathname)) throw new TypeError(`This isn't the script of a worker: ${url}`);
  return url;
}
