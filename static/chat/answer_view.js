/** One answer: its model and state, its parts as they stream, its numbers, and what can be done with it. */

import { endingWord, heldWord, nextStep, statusWord } from "./status_text.js";
import { copyButton } from "../shared/copy_button.js";
import { el, icon, setText } from "../shared/dom.js";
import { paintLater, paintSoon } from "../shared/frame_scheduler.js";
import { toolResultOf, viewOf } from "./part_view.js";
import { duration, grouped, price, speed } from "../shared/format.js";
import { VersionArrows } from "./version_arrows.js";

const CLOCK_EVERY_MS = 250;

export class AnswerView {
  node;
  #message;
  #acts;
  #views = [];
  #clock = 0;
  /** Its place among the page's headings, above those that it brings itself. */
  #heading = el("h2", { class: "unseen", text: "Answer" });
  #model = el("span", { class: "model", "data-testid": "answer-model" });
  #status = el("span", { class: "status", "data-testid": "status" });
  #stop;
  #body = el("div", { class: "parts", "data-testid": "answer" });
  #results = el("div", { class: "results" });
  #error = el("div", { class: "error-place" });
  #numbers = el("p", { class: "numbers", "data-testid": "numbers" });
  #tools;
  #arrows;

  /**
   * @param {import("./message_tree.js").MessageNode} message
   * @param {object} acts what can be done: `stop`, `regenerate`, `choose`, `rate`, `runTools`; and `link`, the connection's state
   */
  constructor(message, acts) {
    this.#message = message;
    this.#acts = acts;
    this.#arrows = new VersionArrows("answer", acts);
    this.#stop = el("button", { type: "button", class: "stop", "data-testid": "stop", onclick: () => this.#stopIt() }, icon("stop"), "Stop");
    this.#tools = this.#makeTools();
    const head = el("header", { class: "answer-head" }, this.#heading, this.#model, this.#status, this.#stop);
    const foot = el("footer", {}, this.#tools, this.#numbers);
    this.node = el("article", { class: "turn", "data-testid": "turn" }, el("div", { class: "wire", "aria-hidden": "true" }), head,
      el("div", { class: "answer" }, el("div", { class: "answer-inner" }, this.#body, this.#results, this.#error)), foot);
    message.changed = (event) => this.#changed(event);
    this.#paintHead();
  }

  /** More comes, or isn't drawn yet. */
  get unfinished() {
    return this.#message.live || this.#clock !== 0;
  }

  /** What the place in the tree says: the versions, the tool's answers, and whether this can be gone on from. */
  settle(results) {
    this.#arrows.show(this.#message);
    this.#results.replaceChildren(...results.map(toolResultOf));
    const calls = this.#message.said.some((part) => part?.kind === "tool_call");
    if (this.#message.ended === "completed" && calls && results.length === 0 && !this.#message.run) this.#results.append(this.#runButton());
    if (this.#message.live || this.#views.length > 0) paintSoon(this);
    else paintLater(this);
  }

  #runButton() {
    return el("button", { type: "button", class: "quiet", "data-testid": "run-tools", onclick: () => this.#acts.runTools(this.#message) },
      icon("tool"), "Answer it here");
  }

  #makeTools() {
    const act = (name, label, onclick) => el("button", { type: "button", class: "act", "aria-label": label, title: label, "data-testid": name, onclick }, icon(name));
    const rate = (rating, label) => {
      const button = act(rating, label, () => {
        this.#showRating(rating);
        this.#acts.rate(this.#message, rating).catch(() => this.#showRating());
      });
      button.dataset.rating = rating;
      return button;
    };
    return el("div", { class: "acts" }, this.#arrows.node, copyButton(() => this.#message.text, "Copy this answer", false),
      act("again", "Answer again", () => this.#acts.regenerate(this.#message)), rate("up", "A good answer"), rate("down", "A bad answer"));
  }

  /** What never reached the gateway can't be rated there. */
  #showRating(rating = this.#message.rating) {
    for (const button of this.#tools.querySelectorAll("[data-rating]")) {
      button.setAttribute("aria-pressed", String(button.dataset.rating === rating));
      button.hidden = !this.#message.id;
    }
  }

  #stopIt() {
    this.#stop.disabled = true;
    this.#acts.stop(this.#message).catch(() => (this.#stop.disabled = false));
  }

  #changed(event) {
    if (event.type === "turn.reset") {
      this.#body.replaceChildren();
      this.#views = [];
    }
    paintSoon(this);
  }

  paint(until) {
    this.#paintHead();
    this.#paintParts(this.#message.said, this.#message.live, until);
  }

  #paintHead() {
    const message = this.#message;
    const { turn } = message;
    const state = stateOf(message);
    if (message.live) this.#clock ||= setInterval(() => this.#tick(), CLOCK_EVERY_MS);
    const entered = this.node.dataset.state !== state;
    if (entered) this.#enter(state);
    const model = message.model ?? turn?.model ?? "";
    setText(this.#heading, model ? `Answer of ${model}` : "Answer");
    setText(this.#model, model);
    if (entered || !message.live) this.#tick(); // while it streams, the clock does
  }

  #tick() {
    const { turn, ended, told } = this.#message;
    const held = turn && !ended ? heldWord(turn, this.#acts.link()) : null;
    setText(this.#status, ended ? "" : turn ? (held ?? statusWord(turn, told)) : "Sending");
    this.node.toggleAttribute("data-held", held !== null);
    this.#paintNumbers();
  }

  #paintParts(parts, live, until) {
    let whole = true;
    for (const [index, part] of parts.entries()) {
      if (!part) continue;
      let view = this.#views[index];
      if (!view) {
        view = this.#views[index] = viewOf(part);
        this.#body.append(view.node);
      }
      const open = live && index === parts.length - 1;
      if (open || view.open !== false) {
        const shown = view.update(part, open, until);
        view.open = open || !shown;
        if (!view.open) view.update = null; // it won't change: what drew it is let go of
        whole = shown && whole;
      }
    }
    if (!whole) paintSoon(this);
  }

  #enter(state) {
    this.node.dataset.state = state;
    const over = state === "completed" || state === "cancelled" || state === "failed";
    this.#stop.hidden = over || state === "starting";
    this.#tools.dataset.off = String(!over); // its room is kept, so that nothing jumps at the end
    this.#showRating();
    this.node.setAttribute("aria-busy", String(!over));
    if (over) this.#finish();
  }

  #finish() {
    clearInterval(this.#clock);
    const { ending, ended, said } = this.#message;
    this.#clock = 0;
    const error = ending?.error;
    if (error) this.#error.replaceChildren(errorBox(error, () => this.#acts.regenerate(this.#message)));
    else if (ended === "failed") this.#error.replaceChildren(el("p", { class: "nothing", text: "This answer failed; what was said until then is kept." }));
    else if (said.length === 0) this.#error.replaceChildren(el("p", { class: "nothing", text: "Nothing was said." }));
  }

  #paintNumbers() {
    const { ending, ended, usage, cost, timing, watch, trimmed } = this.#message;
    const facts = [];
    const fact = (testid, text, title) => text && facts.push({ testid, text, title });
    if (ending || ended) fact("ending", ending ? endingWord(ending) : { completed: "", cancelled: "stopped", failed: "failed" }[ended]);
    if (watch?.ttft_ms != null) fact("first-token", duration(watch.ttft_ms), firstTokenTitle(timing));
    if (watch?.total_ms != null) fact("total", duration(watch.total_ms), "Time in all");
    const rate = watch?.rate(usage);
    if (rate) fact("speed", speed(rate), "Tokens a second since the first token");
    if (usage) fact("tokens", `${grouped(usage.output_tokens)} tokens`, usageTitle(usage));
    if (timing?.attempts > 1) fact("attempts", `${timing.attempts} attempts`, "How often a provider was asked");
    if (trimmed) fact("trimmed", `${trimmed} messages left out`, "The oldest messages didn't fit into the model's window");
    if (price(cost)) fact("cost", price(cost), "What this answer cost");
    this.#showFacts(facts);
  }

  #showFacts(facts) {
    const nodes = this.#numbers.children;
    for (const [index, { testid, text, title }] of facts.entries()) {
      const node = nodes[index] ?? this.#numbers.appendChild(el("span"));
      if (node.dataset.testid !== testid) node.dataset.testid = testid;
      if (title && node.title !== title) node.title = title;
      setText(node, text);
    }
    while (nodes.length > facts.length) nodes[nodes.length - 1].remove();
  }
}

function firstTokenTitle(timing) {
  return timing?.ttft_ms == null ? "To the first token" : `To the first token; measured by the gateway: ${duration(timing.ttft_ms)}`;
}

function stateOf({ turn, ended }) {
  if (ended) return ended;
  if (!turn) return "starting";
  return turn.status === "running" && turn.parts.length > 0 ? "streaming" : turn.status;
}

function usageTitle(usage) {
  const facts = [`${usage.input_tokens} in, ${usage.output_tokens} out`];
  if (usage.reasoning_tokens) facts.push(`${usage.reasoning_tokens} of them thinking`);
  if (usage.cache_read_tokens) facts.push(`${usage.cache_read_tokens} from the cache`);
  if (usage.estimated) facts.push("estimated");
  return facts.join("; ");
}

function errorBox(error, again) {
  const message = el("p", { class: "error-message", text: error.message });
  const next = el("p", { class: "error-next", text: nextStep(error) });
  const code = el("code", { "data-testid": "error-code", text: error.code });
  const box = el("div", { class: "error", "data-testid": "error" }, icon("alert"), el("div", {}, message, next, code));
  if (error.retryable) box.append(el("button", { type: "button", class: "quiet", text: "Try again", onclick: again }));
  return box;
}
