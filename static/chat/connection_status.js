/** Shows the state of the connection: connecting, live with its round trip, degraded, reconnecting, offline, or closed. */

import { setText } from "../shared/dom.js";
import { isOffline } from "./status_text.js";

const COUNTDOWN_MS = 250;
const DEGRADED = "The gateway can't reach its store. Answers continue and are stored later. Requests that need the store fail.";

export class ConnectionStatus {
  #root;
  #text;
  #roundtrip;
  #button;
  #countdown = 0;
  /** Shows the state in the header, unless it is live: the sidebar is hidden on a phone. @type {HTMLElement | null} */
  #chip;
  /** Whether the gateway has lost its store, so that answers are stored later. */
  #isDegraded = false;

  /**
   * @param {HTMLElement} root
   * @param {import("../turnwire.js").Connection} connection
   * @param {HTMLElement} [chip] shows any state but live
   */
  constructor(root, connection, chip = null) {
    this.#chip = chip;
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
    for (const type of ["online", "offline"]) addEventListener(type, () => this.#update(connection.state));
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
    const offline = isOffline(state);
    this.#root.dataset.state = state.state === "live" && offline ? "waiting" : state.state;
    this.#showChip(state, offline);
    if (state.state !== "live") {
      this.#isDegraded = false;
      setText(this.#roundtrip, "");
    }
    this.#root.dataset.degraded = String(this.#isDegraded);
    this.#root.title = this.#isDegraded ? DEGRADED : (state.reason ?? "");
    // Without a network only its own Offline button has an end by hand.
    this.#button.hidden = (state.state !== "waiting" && state.state !== "closed") || state.network === false;
    this.#button.textContent = state.state === "closed" ? "Reload" : state.delay_ms === null ? "Go online" : "Retry now";
    if (offline) setText(this.#text, "Offline");
    else if (state.state === "connecting") setText(this.#text, "Connecting");
    else if (state.state === "live") setText(this.#text, this.#isDegraded ? "Live, storage delayed" : "Live");
    else if (state.state === "closed") setText(this.#text, state.reason);
    else if (state.delay_ms === null) setText(this.#text, "Offline");
    else this.#countDown(performance.now() + state.delay_ms);
  }

  #showChip(state, offline) {
    if (!this.#chip) return;
    const isLive = state.state === "live" && !offline;
    // Before the first socket, "Connecting" is no news.
    if (isLive || (state.state === "connecting" && this.#chip.hidden)) this.#chip.hidden = true;
    else this.#chip.hidden = false;
    const text = offline || state.delay_ms === null ? "Offline" : state.state === "closed" ? "Disconnected" : "Reconnecting";
    setText(this.#chip, this.#chip.hidden ? "" : text);
    this.#chip.title = this.#chip.hidden ? "" : (state.reason ?? "");
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
