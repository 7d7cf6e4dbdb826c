/** What the browser says about the network: the events `online` and `offline`. */

/** Returns whether the host of a URL is this machine, which can be reached without a network. */
export function isLoopback(url) {
  const { hostname } = new URL(url);
  return hostname === "localhost" || hostname.endsWith(".localhost") || hostname === "[::1]" || hostname.startsWith("127.");
}

export class Network {
  #onOffline;
  #onOnline;
  /** Whether the browser says that there is no network. */
  lost = globalThis.navigator?.onLine === false;

  /** @param {() => void} onOffline @param {() => void} onOnline */
  constructor(onOffline, onOnline) {
    this.#onOffline = () => {
      this.lost = true;
      onOffline();
    };
    this.#onOnline = () => {
      this.lost = false;
      onOnline();
    };
    globalThis.addEventListener?.("offline", this.#onOffline);
    globalThis.addEventListener?.("online", this.#onOnline);
  }

  stop() {
    globalThis.removeEventListener?.("offline", this.#onOffline);
    globalThis.removeEventListener?.("online", this.#onOnline);
  }
}
