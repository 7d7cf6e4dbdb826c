/** The break-it panel: a button for each way to break it, and the count that proves that nothing was lost or doubled. */

import { el, icon, setText } from "../shared/dom.js";
import { paintSoon } from "../shared/frame_scheduler.js";
import { SCENARIOS } from "./scenarios.js";
import { grouped } from "../shared/format.js";
import { shortId } from "./wire_list.js";

const FAILURES_MAX = 8;
const TITLE = "Breaking it";
const HEADLINES = {
  idle: "Nothing to prove yet",
  running: "So far so good",
  whole: "Nothing lost, nothing doubled",
  unproven: "Not everything can be proven",
  broken: "Broken",
};

export class BreakIt {
  #connection;
  #page;
  #witness;
  #own = new Set();
  #proofBox;
  #headline = el("p", { class: "proof-headline", role: "status" });
  #count = el("p", { class: "proof-count", "data-testid": "proof-count" });
  #more = el("p", { class: "proof-more" });
  #failures = el("ul", { class: "proof-failures", "data-testid": "proof-failures" });

  /**
   * @param {HTMLElement} panel
   * @param {import("../turnwire.js").Connection} connection
   * @param {{chat: import("../chat/conversation_model.js").Chat, open: (conversation: string) => void}} page
   * @param {import("./peer_check.js").Witness} witness
   */
  constructor(panel, connection, page, witness) {
    this.#connection = connection;
    this.#page = page;
    this.#witness = witness;
    const clear = el("button", { type: "button", class: "act", "aria-label": "Count anew", title: "Count anew", onclick: () => witness.proof.clear() }, icon("again"));
    this.#proofBox = el("div", { class: "proof", "data-testid": "proof", "data-state": "idle" },
      el("span", { class: "proof-mark" }, icon("check"), icon("alert")), this.#headline, clear, this.#count, this.#more, this.#failures);
    panel.append(this.#proofBox, el("ul", { class: "scenarios" }, ...SCENARIOS.map((scenario) => this.#card(scenario))));
    witness.proof.addEventListener("change", () => paintSoon(this));
    this.paint();
  }

  paint() {
    const { violations, sum } = this.#witness.proof;
    this.#proofBox.dataset.state = sum.state;
    setText(this.#headline, HEADLINES[sum.state]);
    setText(this.#count, `${grouped(sum.turns)} turn${sum.turns === 1 ? "" : "s"}, ${grouped(sum.characters)} characters, ${grouped(sum.lost)} lost, ${grouped(sum.doubled)} doubled`);
    const more = [sum.running && `${sum.running} under way`, sum.refused && `${sum.refused} refused before the start`, sum.unproven.length && `${sum.unproven.length} without a proof`].filter(Boolean);
    setText(this.#more, more.length > 0 ? more.join(", ") : "Each turn as it was received here, against the message as it was stored.");
    const told = [...violations, ...[...sum.broken, ...sum.unproven].map(({ id, failure }) => `Turn ${shortId(id)}: ${failure}`)];
    const shown = told.length > FAILURES_MAX ? [...told.slice(0, FAILURES_MAX), `And ${told.length - FAILURES_MAX} more.`] : told;
    if (this.#failures.textContent !== shown.join("")) this.#failures.replaceChildren(...shown.map((text) => el("li", { text })));
  }

  #card(scenario) {
    const { name, title, should, icon: symbol } = scenario;
    const word = el("span", { text: title });
    const button = el("button", { type: "button", class: "quiet scenario-run", "aria-describedby": `should-${name}`, "data-testid": `run-${name}` }, icon(symbol), word);
    const outcome = el("p", { class: "scenario-outcome", role: "status", "data-testid": `outcome-${name}` });
    const card = el("li", { class: "scenario", "data-testid": `scenario-${name}`, "data-state": "idle" },
      button, el("p", { class: "scenario-should", id: `should-${name}`, text: should }), outcome);
    const parts = { card, button, word, outcome, again: null };
    button.addEventListener("click", () => {
      if (parts.again) parts.again();
      else if (card.dataset.state !== "busy") void this.#run(scenario, parts);
    });
    return card;
  }

  async #run(scenario, parts) {
    const { card, button, outcome } = parts;
    card.dataset.state = "busy";
    button.setAttribute("aria-disabled", "true");
    setText(outcome, "");
    try {
      setText(outcome, await scenario.run(this.#bench(scenario, parts)));
      card.dataset.state = "whole";
    } catch (error) {
      setText(outcome, error.message);
      card.dataset.state = "broken";
    }
    button.removeAttribute("aria-disabled");
  }

  /** See scenarios.js. */
  #bench(scenario, parts) {
    const { proof } = this.#witness;
    return {
      connection: this.#connection,
      proof,
      start: async (asked) => {
        const place = await this.#place();
        return asked.map((one) => this.#follow(this.#connection.start({ ...fieldsFor(one), ...place }), one));
      },
      startTwice: async (asked) => {
        const fields = { ...fieldsFor(asked), ...(await this.#place()) };
        const turn = this.#follow(this.#connection.start(fields), asked);
        return { turn, again: this.#connection.request("turn.start", { ...fields, turn: turn.id }) };
      },
      pressed: (label) => this.#pressed(label, scenario.title, parts),
      say: (words) => setText(parts.outcome, words),
      openDevice: async () => {
        const { conversation } = await this.#place();
        window.open(`${location.pathname}${location.search}#${conversation}`, "_blank", "noopener");
        return this.#witness.called(conversation);
      },
      witnessed: (ids, timeout_ms) => this.#witness.witnessed(ids, timeout_ms),
    };
  }

  #follow(turn, { text }) {
    this.#witness.proof.expect(turn.id, text);
    this.#witness.proof.follow(turn);
    this.#page.chat.follow(turn);
    return turn;
  }

  /** Where turns go: a conversation of the panel's own, so that nobody's own is filled with counting. */
  async #place() {
    if (!this.#own.has(this.#page.chat.id)) {
      const { id } = await this.#connection.request("conversation.create", { title: TITLE });
      this.#own.add(id);
      this.#page.open(id);
    }
    const { chat } = this.#page;
    const parent = chat.anchor().id;
    return { conversation: chat.id, ...(parent && { parent }) };
  }

  /** The button, with another label, until it is pressed again, or the connection is back by other means. */
  #pressed(label, title, parts) {
    return new Promise((resolve) => {
      const done = () => {
        this.#connection.removeEventListener("state", back);
        setText(parts.word, title);
        parts.again = null;
        parts.button.setAttribute("aria-disabled", "true");
        resolve();
      };
      const back = ({ detail }) => detail.state === "live" && done();
      this.#connection.addEventListener("state", back);
      setText(parts.word, label);
      parts.button.removeAttribute("aria-disabled");
      parts.again = done;
    });
  }
}

function fieldsFor({ text, rate, fail, input }) {
  return { model: "demo", input, params: { demo: { text, rate, ...(fail && { fail }) } } };
}
