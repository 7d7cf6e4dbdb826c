/** The view of an answer: its model and state, its parts as they stream, its numbers, and its buttons. */

import { copyButton } from "../shared/copy_button.js";
import { el, icon, setText } from "../shared/dom.js";
import { schedulePaint, schedulePaintWhenIdle } from "../shared/frame_scheduler.js";
import { AnswerStats } from "./answer_stats.js";
import { createPartView, createToolResult } from "./part_view.js";
import { cutText, errorAdvice, stallText, statusText } from "./status_text.js";
import { VersionArrows } from "./version_arrows.js";

const TICK_MS = 250;

export class AnswerView {
  node;
  #message;
  #actions;
  #partViews = [];
  #tickTimer = 0;
  /** Whether the status and the numbers are due. They are painted with the text, so that both share one layout. */
  #isTickDue = false;
  /** A heading for screen readers, above the headings of the answer's own text. */
  #heading = el("h2", { class: "visually-hidden", text: "Answer" });
  #model = el("span", { class: "model", "data-testid": "answer-model" });
  #status = el("span", { class: "status", "data-testid": "status" });
  #stop;
  #body = el("div", { class: "parts", "data-testid": "answer" });
  /** What asks the user before its tools run. @type {HTMLElement | null} */
  #approval = null;
  #toolResults = el("div", { class: "tool-results" });
  #errorSlot = el("div", { class: "error-slot" });
  #stats = new AnswerStats();
  #toolbar;
  #arrows;

  /**
   * @param {import("./message_tree.js").MessageNode} message
   * @param {object} actions `stop`, `regenerate`, `select`, `setSideBySide`, `rate`, `runTools`, `mayRunTools`, `continueAnswer`, `handOver`, and `connectionState`;
   *   see MessageList
   */
  constructor(message, actions) {
    this.#message = message;
    this.#actions = actions;
    this.#arrows = new VersionArrows("answer", actions);
    this.#stop = el("button", { type: "button", class: "stop", "data-testid": "stop", onclick: () => this.#onStop() }, icon("stop"), "Stop");
    this.#toolbar = this.#createToolbar();
    const head = el("header", { class: "answer-head" }, this.#heading, this.#model, this.#status, this.#stop);
    const foot = el("footer", {}, this.#toolbar, this.#stats.node);
    this.node = el("article", { class: "turn", "data-testid": "turn" }, el("div", { class: "stripe", "aria-hidden": "true" }), head,
      el("div", { class: "answer" }, el("div", { class: "answer-inner" }, this.#body, this.#toolResults, this.#errorSlot)), foot);
    message.onChange = (event) => this.#onChange(event);
    this.#paintHead();
  }

  /** Whether it is streaming or not painted yet, so that it must not be discarded. */
  get isBusy() {
    return this.#message.isStreaming || this.#tickTimer !== 0;
  }

  /** Shows what depends on the tree: the versions, and the results of its tool calls. @param {object[]} toolResults */
  update(toolResults) {
    this.#arrows.update(this.#message);
    this.#updateToolResults(toolResults);
    if (this.#message.isStreaming || this.#partViews.length > 0) schedulePaint(this);
    else schedulePaintWhenIdle(this);
  }

  /** Shows the results of its tool calls or, if they wait for the user, a question. */
  #updateToolResults(toolResults) {
    const { ended, toolCalls, toolFollowUp } = this.#message;
    const mayRun = this.#actions.mayRunTools?.(toolCalls) ?? true;
    if (ended !== "completed" || toolCalls.length === 0 || toolResults.length > 0 || (toolFollowUp && mayRun)) {
      this.#approval = null;
      this.#toolResults.replaceChildren(...toolResults.map(createToolResult));
    } else if (!this.#approval) {
      this.#approval = mayRun ? this.#createRunButton() : this.#createApproval(toolCalls);
      this.#toolResults.replaceChildren(this.#approval);
    }
  }

  #createApproval(calls) {
    const place = el("div", { class: "approval-place" });
    import("./tool_approval.js").then(
      ({ createToolApproval }) => place.append(createToolApproval(calls, (refused) => this.#actions.runTools(this.#message, refused))),
      () => place.append(this.#createRunButton()), // it can't be loaded: the button asks as well
    );
    return place;
  }

  #createRunButton() {
    return el("button", { type: "button", class: "button-secondary", "data-testid": "run-tools", onclick: () => this.#actions.runTools(this.#message) },
      icon("tool"), "Run tools");
  }

  #createToolbar() {
    const button = (testid, symbol, label, onclick) =>
      el("button", { type: "button", class: "icon-button", "aria-label": label, title: label, "data-testid": testid, onclick }, icon(symbol));
    const ratingButton = (rating, label) => {
      const node = button(rating, `thumb-${rating}`, label, () => {
        this.#showRating(rating);
        this.#actions.rate(this.#message, rating).catch(() => this.#showRating());
      });
      node.dataset.rating = rating;
      return node;
    };
    return el("div", { class: "actions" }, this.#arrows.node, copyButton(() => this.#message.text, "Copy answer", false),
      button("regenerate", "retry", "Regenerate", () => this.#actions.regenerate(this.#message)), ratingButton("up", "Good answer"), ratingButton("down", "Bad answer"));
  }

  /** Shows a rating. An answer that never reached the gateway can't be rated. */
  #showRating(rating = this.#message.rating) {
    for (const button of this.#toolbar.querySelectorAll("[data-rating]")) {
      button.setAttribute("aria-pressed", String(button.dataset.rating === rating));
      button.hidden = !this.#message.id;
    }
  }

  #onStop() {
    this.#stop.disabled = true;
    this.#actions.stop(this.#message).catch(() => (this.#stop.disabled = false));
  }

  #onChange(event) {
    if (event.type === "turn.reset") {
      this.#body.replaceChildren();
      this.#partViews = [];
    }
    schedulePaint(this);
  }

  paint(deadline) {
    this.#paintHead();
    this.#paintParts(this.#message.currentParts, this.#message.isStreaming, deadline);
  }

  #paintHead() {
    const message = this.#message;
    const { turn } = message;
    const state = stateOf(message);
    if (message.isStreaming) this.#tickTimer ||= setInterval(() => this.#requestTick(), TICK_MS);
    const isNewState = this.node.dataset.state !== state;
    if (isNewState) this.#setState(state);
    const model = message.model ?? turn?.model ?? "";
    setText(this.#heading, model ? `Answer from ${model}` : "Answer");
    setText(this.#model, model);
    if (isNewState || !message.isStreaming || this.#isTickDue) this.#tick();
  }

  #requestTick() {
    this.#isTickDue = true;
    schedulePaint(this);
  }

  #tick() {
    this.#isTickDue = false;
    const { turn, ended, lastStatus } = this.#message;
    const stall = !ended && (turn || !this.#message.id) ? stallText(turn, this.#actions.connectionState()) : null;
    setText(this.#status, ended ? "" : (stall ?? (turn ? statusText(turn, lastStatus) : "Sending")));
    this.node.toggleAttribute("data-stalled", stall !== null);
    this.#stats.update(this.#message);
  }

  #paintParts(parts, isStreaming, deadline) {
    let allShown = true;
    for (const [index, part] of parts.entries()) {
      if (!part) continue;
      let view = this.#partViews[index];
      if (!view) {
        view = this.#partViews[index] = createPartView(part);
        this.#body.append(view.node);
      }
      const open = isStreaming && index === parts.length - 1;
      if (open || view.open !== false) {
        const shown = view.update(part, open, deadline);
        view.open = open || !shown;
        if (!view.open) view.update = null; // frees the state of the renderer: the part is final
        allShown = shown && allShown;
      }
    }
    if (!allShown) schedulePaint(this);
  }

  #setState(state) {
    this.node.dataset.state = state;
    const hasEnded = state === "completed" || state === "cancelled" || state === "failed";
    this.#stop.hidden = hasEnded || state === "starting";
    this.#toolbar.dataset.hidden = String(!hasEnded); // it keeps its space, so that nothing moves at the end
    this.#showRating();
    this.node.setAttribute("aria-busy", String(!hasEnded));
    if (hasEnded) this.#finish();
  }

  #finish() {
    clearInterval(this.#tickTimer);
    const { ending, ended, currentParts } = this.#message;
    this.#tickTimer = 0;
    if (ending.error) return this.#errorSlot.replaceChildren(createErrorBox(ending.error, this.#errorButtons(ending.error)));
    const note = ended === "failed" ? "This answer failed. The partial text is kept." : cutText(ending) || (currentParts.length === 0 ? "The answer is empty." : "");
    const nodes = note ? [el("p", { class: "answer-note", "data-testid": "answer-note", text: note })] : [];
    if (this.#canContinue) nodes.push(this.#createContinueButton());
    this.#errorSlot.replaceChildren(...nodes);
  }

  /** Whether it has the beginning of an answer: it was cut off by a limit, stopped, or failed. */
  get #canContinue() {
    const { id, ended, ending, toolCalls, text } = this.#message;
    const isCut = ended === "cancelled" || ended === "failed" || ending?.finish_reason === "length";
    return Boolean(this.#actions.continueAnswer && id && isCut && toolCalls.length === 0 && text.trim());
  }

  #createContinueButton() {
    return el("button", { type: "button", class: "button-secondary", "data-testid": "continue", title: "Let the model go on from where the answer ends", onclick: () => this.#actions.continueAnswer(this.#message) },
      icon("chevron-right"), "Continue");
  }

  /** Returns what can be done about an error. */
  #errorButtons(error) {
    const buttons = [];
    if (error.retryable) buttons.push(el("button", { type: "button", class: "button-secondary", text: "Try again", onclick: () => this.#actions.regenerate(this.#message) }));
    if (this.#canContinue) buttons.push(this.#createContinueButton());
    if (error.code === "context_length_exceeded" && this.#actions.handOver) {
      const handOver = (mode, text) => el("button", { type: "button", class: "button-secondary", text, "data-testid": `hand-over-${mode}`, onclick: async ({ target }) => {
        target.disabled = true;
        await this.#actions.handOver(this.#message, mode);
        target.disabled = false;
      } });
      buttons.push(handOver("recent", "New conversation with the last exchanges"), handOver("summary", "New conversation with a summary"));
    }
    return buttons;
  }
}

/** Returns the value of `data-state`: the turn's status, with `streaming` for a running turn that has output. */
function stateOf({ turn, ended }) {
  if (ended) return ended;
  if (!turn) return "starting";
  return turn.status === "running" && turn.parts.length > 0 ? "streaming" : turn.status;
}

function createErrorBox(error, buttons) {
  const message = el("p", { class: "error-message", text: error.message });
  const advice = el("p", { class: "error-advice", text: errorAdvice(error) });
  const code = el("code", { "data-testid": "error-code", text: error.code });
  const box = el("div", { class: "error", "data-testid": "error" }, icon("alert"), el("div", {}, message, advice, code));
  if (buttons.length > 0) box.append(el("div", { class: "error-actions" }, ...buttons));
  return box;
}
