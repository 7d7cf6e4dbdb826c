/** While HTTP is used, tries at a growing interval whether a WebSocket opens again. It never interrupts a turn. */

const FIRST_MS = 15_000;
const CAP_MS = 600_000;
const OPENED_MS = 10_000;
const BUSY_MS = 1_000;

export class SocketProbe {
  #open;
  #isIdle;
  #onReady;
  #timer = 0;
  #wait_ms = FIRST_MS;
  #socket = null;

  /**
   * @param {() => Promise<WebSocket>} open opens a socket with its credential
   * @param {() => boolean} isIdle whether no turn is running, and no request waits
   * @param {(socket: WebSocket, message: object) => void} onReady takes a socket over, and its first message, `ready`
   */
  constructor(open, isIdle, onReady) {
    this.#open = open;
    this.#isIdle = isIdle;
    this.#onReady = onReady;
  }

  /** Begins to wait for the next try. */
  start() {
    this.stop();
    this.#timer = setTimeout(() => void this.#try(), this.#wait_ms * (0.75 + Math.random() / 2));
  }

  /** Tries soon: the network is another one, perhaps. */
  hurry() {
    this.#wait_ms = FIRST_MS;
    if (!this.#timer) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#try(), BUSY_MS);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#drop();
  }

  async #try() {
    if (!this.#isIdle()) {
      this.#timer = setTimeout(() => void this.#try(), BUSY_MS);
      return;
    }
    const timer = (this.#timer = setTimeout(() => this.#failed(), OPENED_MS));
    try {
      const socket = await this.#open();
      if (timer !== this.#timer) {
        socket.close();
        return;
      }
      this.#socket = socket;
      socket.onmessage = (message) => this.#onMessage(socket, message);
      socket.onclose = socket.onerror = () => timer === this.#timer && this.#failed();
    } catch {
      if (timer === this.#timer) this.#failed();
    }
  }

  #onMessage(socket, message) {
    if (!this.#isIdle()) {
      this.stop();
      this.#timer = setTimeout(() => void this.#try(), BUSY_MS);
      return;
    }
    this.#socket = null;
    this.stop();
    this.#wait_ms = FIRST_MS;
    this.#onReady(socket, message);
  }

  #failed() {
    this.#wait_ms = Math.min(CAP_MS, this.#wait_ms * 2);
    this.start();
  }

  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }
}
