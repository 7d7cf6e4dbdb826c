/** Shows the state of the connection: connecting, live with its round trip, degraded, reconnecting, offline, or closed. */

import { setText } from "../shared/dom.js";

const COUNTDOWN_MS = 250;
const DEGRADED = "The gateway can't reach its store. Answers continue and are stored later. Requests that need the store fail.";

export class ConnectionStatus {
  #root;
  #text;
  #roundtrip;
  #button;
  #countdown = 0;
  /** Whether the gateway has lost its store, so that answers are stored later. */
  #isDegraded = false;

  /**
   * @param {HTMLElement} root
   * @param {import("../turnwire.js").Connection} connection
   */
  constructor(root, connection) {
    this.#root = root;
    this.#text = root.querySelector(".connection-text");
    this.#roundtrip = root.querySelector(".roundtrip");
    this.#button = root.querySelector(".connection-button");
    this.#button.addEventListener("click", () => {
      const { state, delay_ms } = connection.state;
      if (state === "closed") location.reload();
      else if (delay_ms === null) connection.online();
      else connection.retryNow();
    });
    connection.addEventListener("state", ({ detail }) => this.#update(detail));
    connection.addEventListener("event", ({ detail }) => {
      if (detail.type !== "durability") return;
      this.#isDegraded = detail.state === "degraded";
      this.#update(connection.state);
    });
    connection.addEventListener("roundtrip", ({ detail }) => setText(this.#roundtrip, `${Math.max(1, Math.round(detail))} ms`));
    this.#update(connection.state);
  }

  #update(state) {
    clearInterval(this.#countdown);
    this.#root.dataset.state = state.state;
    if (state.state !== "live") {
      this.#isDegraded = false;
      setText(this.#roundtrip, "");
    }
    this.#root.dataset.degraded = String(this.#isDegraded);
    this.#root.title = this.#isDegraded ? DEGRADED : (state.reason ?? "");
    this.#button.hidden = state.state !== "waiting" && state.state !== "closed";
    this.#button.textContent = state.state === "closed" ? "Reload" : state.delay_ms === null ? "Go online" : "Retry now";
    if (state.state === "connecting") setText(this.#text, "Connecting");
    else if (state.state === "live") setText(this.#text, this.#isDegraded ? "Live, storage delayed" : "Live");
    else if (state.state === "closed") setText(this.#text, state.reason);
    else if (state.delay_ms === null) setText(this.#text, "Offline");
    else this.#countDown(performance.now() + state.delay_ms);
  }

  #countDown(until) {
    const show = () => {
      const seconds = Math.max(0, Math.ceil((until - performance.now()) / 1000));
      setText(this.#text, seconds > 0 ? `Reconnecting in ${seconds} s` : "Reconnecting");
    };
    show();
    this.#countdown = setInterval(show, COUNTDOWN_MS);
  }
}
