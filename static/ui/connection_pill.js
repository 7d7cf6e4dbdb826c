/** The connection at a glance: connecting, live with its round trip, reconnecting with a countdown, closed with why. */

import { setText } from "./dom.js";

const COUNT_EVERY_MS = 250;

export class ConnectionPill {
  #root;
  #text;
  #roundtrip;
  #act;
  #count = 0;

  /** @param {HTMLElement} root @param {import("./turnwire.js").Connection} connection */
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
    connection.addEventListener("roundtrip", ({ detail }) => setText(this.#roundtrip, `${Math.max(1, Math.round(detail))} ms`));
    this.#show(connection.state);
  }

  #show(state) {
    clearInterval(this.#count);
    this.#root.dataset.state = state.state;
    this.#root.title = state.reason ?? "";
    if (state.state !== "live") setText(this.#roundtrip, "");
    this.#act.hidden = state.state !== "waiting" && state.state !== "closed";
    this.#act.textContent = state.state === "closed" ? "Reload" : state.delay_ms === null ? "Go online" : "Retry now";
    if (state.state === "connecting") setText(this.#text, "Connecting");
    else if (state.state === "live") setText(this.#text, "Live");
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
