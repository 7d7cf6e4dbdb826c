/** The break-it panel: a button for each scenario, and the summary of the integrity check. */

import { el, icon, setText } from "../shared/dom.js";
import { formatCount, shortId } from "../shared/format.js";
import { schedulePaint } from "../shared/frame_scheduler.js";
import { SCENARIOS } from "./scenarios.js";

const FAILURES_MAX = 8;
const CONVERSATION_TITLE = "Break-it tests";
const HEADLINES = {
  idle: "Nothing checked yet",
  running: "Checking",
  passed: "No characters lost or duplicated",
  unverified: "Some turns can't be verified",
  failed: "Check failed",
};

export class BreakItPanel {
  #connection;
  #page;
  #peerCheck;
  /** Ids of the conversations that this panel created. */
  #ownConversations = new Set();
  #summaryBox;
  #headline = el("p", { class: "integrity-headline", role: "status" });
  #count = el("p", { class: "integrity-count", "data-testid": "integrity-count" });
  #details = el("p", { class: "integrity-details" });
  #failures = el("ul", { class: "integrity-failures", "data-testid": "integrity-failures" });

  /**
   * @param {HTMLElement} panel
   * @param {import("../turnwire.js").Connection} connection
   * @param {import("./workbench.js").PageContext} page
   * @param {import("./peer_check.js").PeerCheck} peerCheck
   */
  constructor(panel, connection, page, peerCheck) {
    this.#connection = connection;
    this.#page = page;
    this.#peerCheck = peerCheck;
    const reset = el("button", { type: "button", class: "icon-button", "aria-label": "Reset", title: "Reset", onclick: () => peerCheck.integrity.clear() }, icon("retry"));
    this.#summaryBox = el("div", { class: "integrity", "data-testid": "integrity", "data-state": "idle" },
      el("span", { class: "integrity-mark" }, icon("check"), icon("alert")), this.#headline, reset, this.#count, this.#details, this.#failures);
    panel.append(this.#summaryBox, el("ul", { class: "scenarios" }, ...SCENARIOS.map((scenario) => this.#createCard(scenario))));
    peerCheck.integrity.addEventListener("change", () => schedulePaint(this));
    this.paint();
  }

  paint() {
    const { violations, summary } = this.#peerCheck.integrity;
    this.#summaryBox.dataset.state = summary.state;
    setText(this.#headline, HEADLINES[summary.state]);
    setText(this.#count, `${formatCount(summary.turns)} turn${summary.turns === 1 ? "" : "s"}, ${formatCount(summary.characters)} characters, ${formatCount(summary.lost)} lost, ${formatCount(summary.duplicated)} duplicated`);
    const details = [summary.running && `${summary.running} running`, summary.skipped && `${summary.skipped} not started`, summary.unverified.length && `${summary.unverified.length} unverified`].filter(Boolean);
    setText(this.#details, details.length > 0 ? details.join(", ") : "Compares each turn received here with the message stored by the gateway.");
    const failures = [...violations, ...[...summary.failed, ...summary.unverified].map(({ id, failure }) => `Turn ${shortId(id)}: ${failure}`)];
    const shown = failures.length > FAILURES_MAX ? [...failures.slice(0, FAILURES_MAX), `And ${failures.length - FAILURES_MAX} more.`] : failures;
    if (this.#failures.textContent !== shown.join("")) this.#failures.replaceChildren(...shown.map((text) => el("li", { text })));
  }

  #createCard(scenario) {
    const { name, title, expected, icon: symbol } = scenario;
    const label = el("span", { text: title });
    const button = el("button", { type: "button", class: "button-secondary scenario-run", "aria-describedby": `expected-${name}`, "data-testid": `run-${name}` }, icon(symbol), label);
    const status = el("p", { class: "scenario-status", role: "status", "data-testid": `status-${name}` });
    const card = el("li", { class: "scenario", "data-testid": `scenario-${name}`, "data-state": "idle" },
      button, el("p", { class: "scenario-expected", id: `expected-${name}`, text: expected }), status);
    const parts = { card, button, label, status, onPress: null };
    button.addEventListener("click", () => {
      if (parts.onPress) parts.onPress();
      else if (card.dataset.state !== "running") void this.#run(scenario, parts);
    });
    return card;
  }

  async #run(scenario, parts) {
    const { card, button, status } = parts;
    card.dataset.state = "running";
    button.setAttribute("aria-disabled", "true");
    setText(status, "");
    try {
      setText(status, await scenario.run(this.#createContext(scenario, parts)));
      card.dataset.state = "passed";
    } catch (error) {
      setText(status, error.message);
      card.dataset.state = "failed";
    }
    button.removeAttribute("aria-disabled");
  }

  /** @returns {import("./scenarios.js").ScenarioContext} */
  #createContext(scenario, parts) {
    const { integrity } = this.#peerCheck;
    return {
      connection: this.#connection,
      integrity,
      start: async (requests) => {
        const target = await this.#openTarget();
        return requests.map((request) => this.#follow(this.#connection.start({ ...startFields(request), ...target }), request));
      },
      startTwice: async (request) => {
        const fields = { ...startFields(request), ...(await this.#openTarget()) };
        const turn = this.#follow(this.#connection.start(fields), request);
        return { turn, second: this.#connection.request("turn.start", { ...fields, turn: turn.id }) };
      },
      waitForPress: (label) => this.#waitForPress(label, scenario.title, parts),
      setStatus: (text) => setText(parts.status, text),
      openPeer: async () => {
        const { conversation } = await this.#openTarget();
        window.open(`${location.pathname}${location.search}#${conversation}`, "_blank", "noopener");
        return this.#peerCheck.waitForPeer(conversation);
      },
      confirmedByPeer: (ids, timeout_ms) => this.#peerCheck.confirmed(ids, timeout_ms),
    };
  }

  #follow(turn, { text }) {
    this.#peerCheck.integrity.setExpectedText(turn.id, text);
    this.#peerCheck.integrity.track(turn);
    this.#page.conversation.follow(turn);
    return turn;
  }

  /**
   * Opens a conversation for the tests, unless one is open already, so that the user's own conversations don't change.
   * Returns the fields that place the next turn in it.
   */
  async #openTarget() {
    if (!this.#ownConversations.has(this.#page.conversation.id)) {
      const { id } = await this.#connection.request("conversation.create", { title: CONVERSATION_TITLE });
      this.#ownConversations.add(id);
      this.#page.open(id);
    }
    const { conversation } = this.#page;
    const parent = conversation.anchor().id;
    return { conversation: conversation.id, ...(parent && { parent }) };
  }

  /** Relabels the button. Resolves when it is pressed or the connection is live again by other means. */
  #waitForPress(label, title, parts) {
    return new Promise((resolve) => {
      const done = () => {
        this.#connection.removeEventListener("state", onState);
        setText(parts.label, title);
        parts.onPress = null;
        parts.button.setAttribute("aria-disabled", "true");
        resolve();
      };
      const onState = ({ detail }) => detail.state === "live" && done();
      this.#connection.addEventListener("state", onState);
      setText(parts.label, label);
      parts.button.removeAttribute("aria-disabled");
      parts.onPress = done;
    });
  }
}

function startFields({ text, rate, fail, input }) {
  return { model: "demo", input, params: { demo: { text, rate, ...(fail && { fail }) } } };
}
