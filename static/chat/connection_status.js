/** The connection at a glance: connecting, live with its round trip, without a store, reconnecting with a countdown, closed with why. */

import { setText } from "../shared/dom.js";

const COUNT_EVERY_MS = 250;
const DEGRADED = "The gateway can't reach its store. Answers go on, and are stored when it can; what needs the store fails until then.";

export class ConnectionPill {
  #root;
  #text;
  #roundtrip;
  #act;
  #count = 0;
  /** The gateway has lost its store: what streams is stored later. */
  #degraded = false;

  /** @param {HTMLElement} root @param {import("../turnwire.js").Connection} connection */
  constructor(root, connection) {
    this.#root = root;
    this.#text = root.querySelector(".connection-text");
    this.#roundtrip = root.querySelector(".roundtrip");
    this.#act = root.querySelector(".connection-act");
    this.#act.addEventListener("click", () => {
      const { state, delay_ms } = connection.state;
      if (state === "closed") location.reload();
      else if (delay_ms === null) connection.online();
      else connection.retryNow();
    });
    connection.addEventListener("state", ({ detail }) => this.#show(detail));
    connection.addEventListener("event", ({ detail }) => {
      if (detail.type !== "durability") return;
      this.#degraded = detail.state === "degraded";
      this.#show(connection.state);
    });
    connection.addEventListener("roundtrip", ({ detail }) => setText(this.#roundtrip, `${Math.max(1, Math.round(detail))} ms`));
    this.#show(connection.state);
  }

  #show(state) {
    clearInterval(this.#count);
    this.#root.dataset.state = state.state;
    if (state.state !== "live") {
      this.#degraded = false;
      setText(this.#roundtrip, "");
    }
    this.#root.dataset.degraded = String(this.#degraded);
    this.#root.title = this.#degraded ? DEGRADED : (state.reason ?? "");
    this.#act.hidden = state.state !== "waiting" && state.state !== "closed";
    this.#act.textContent = state.state === "closed" ? "Reload" : state.delay_ms === null ? "Go online" : "Retry now";
    if (state.state === "connecting") setText(this.#text, "Connecting");
    else if (state.state === "live") setText(this.#text, this.#degraded ? "Live, storing later" : "Live");
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
    this.#count = setInterval(show, COUNT_EVERY_MS);
  }
}
