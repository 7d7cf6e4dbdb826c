/** One turn as a card: prompt, model, status, streaming answer, reasoning, tool calls, numbers and its ending. */

import { endingWord, nextStep, statusWord } from "./advice.js";
import { el, icon, setText } from "./dom.js";
import { viewOf } from "./part_view.js";
import { duration, price, speed, Stopwatch } from "./stats.js";

const CLOCK_EVERY_MS = 200;
const NEAR_END_PX = 64;

/** Follows a turn from its start to its ending; draws at most once per animation frame. */
export class TurnCard {
  node;
  /** Resolves with the turn's ending event. */
  finished;
  #turn;
  #watch;
  #views = [];
  #drawing = 0;
  #status = el("span", { class: "status", "data-testid": "status" });
  #question = el("p", { class: "prompt", dir: "auto", "data-testid": "prompt" });
  #model = el("span", { class: "model" });
  #body = el("div", { class: "answer", "data-testid": "answer" });
  #stop;
  #numbers = new Map();

  /**
   * @param {import("./turnwire.js").Turn} turn
   * @param {object} about
   * @param {string} [about.prompt] what was asked; a turn that is followed says it itself
   * @param {string} [about.model] the model that was asked for
   * @param {boolean} [about.replayed] the turn began before this page was loaded
   * @param {number} about.number the how-manieth turn of this page it is
   * @param {() => void} about.again asks the same once more
   */
  constructor(turn, about) {
    this.#turn = turn;
    this.#watch = new Stopwatch(about.replayed ?? false);
    this.#question.textContent = about.prompt ?? "";
    this.#model.textContent = about.model ?? "";
    this.#stop = el("button", { type: "button", class: "stop", "data-testid": "stop", onclick: () => this.stop() }, icon("stop"), "Stop");
    this.#stop.setAttribute("aria-label", `Stop answer ${about.number}`);
    this.node = this.#build(about);
    this.finished = this.#follow(about);
    this.#draw();
  }

  get id() {
    return this.#turn.id;
  }

  stop() {
    this.#stop.disabled = true;
    this.#turn.cancel("stopped on the page").catch(() => (this.#stop.disabled = false));
  }

  #build({ number }) {
    const head = el("header", {}, this.#question, el("p", { class: "meta" }, this.#model, this.#status));
    const stats = el("dl", { class: "stats" }, ...["First token", "Speed", "Total"].map((name) => this.#number(name)));
    const foot = el("footer", {}, stats, this.#stop);
    const wire = el("div", { class: "wire", "aria-hidden": "true" });
    const attributes = { class: "turn", "data-testid": "turn", "data-state": "starting", "aria-label": `Answer ${number}` };
    return el("article", attributes, wire, head, this.#body, foot);
  }

  #number(name) {
    const value = el("dd", { text: "–", "data-testid": name.toLowerCase().replace(" ", "-") });
    this.#numbers.set(name, value);
    return el("div", {}, el("dt", { text: name }), value);
  }

  async #follow(about) {
    const clock = setInterval(() => this.#schedule(), CLOCK_EVERY_MS);
    for await (const event of this.#turn) {
      if (event.type === "turn.delta" && event.text) this.#watch.heard(event);
      if (event.type === "turn.reset") this.#startOver();
      this.#schedule();
    }
    clearInterval(clock);
    this.#watch.end(this.#turn.ending.timing);
    this.#finish(about);
    return this.#turn.ending;
  }

  #schedule() {
    this.#drawing ||= requestAnimationFrame(() => this.#draw());
  }

  #startOver() {
    this.#body.replaceChildren();
    this.#views = [];
  }

  #draw() {
    cancelAnimationFrame(this.#drawing);
    this.#drawing = 0;
    const turn = this.#turn;
    const body = this.#body;
    const atEnd = body.scrollHeight - body.scrollTop - body.clientHeight < NEAR_END_PX;
    this.node.dataset.state = turn.status === "running" && turn.parts.length > 0 ? "streaming" : turn.status;
    setText(this.#status, statusWord(turn));
    if (turn.model) setText(this.#model, turn.model);
    if (!this.#question.textContent) setText(this.#question, turn.inputText);
    for (const [index, part] of turn.parts.entries()) {
      if (part) this.#drawPart(index, part, !turn.ended && index === turn.parts.length - 1);
    }
    if (atEnd && !turn.ended) body.scrollTop = body.scrollHeight;
    this.#drawNumbers();
  }

  #drawPart(index, part, open) {
    let view = this.#views[index];
    if (!view) {
      view = this.#views[index] = viewOf(part);
      this.#body.append(view.node);
    }
    view.update(part, open);
  }

  #drawNumbers() {
    const { usage } = this.#turn.ending ?? {};
    setText(this.#numbers.get("First token"), duration(this.#watch.ttft_ms));
    setText(this.#numbers.get("Speed"), speed(this.#watch.rate(usage)));
    setText(this.#numbers.get("Total"), duration(this.#watch.total_ms));
  }

  #finish(about) {
    this.#draw();
    this.#stop.remove();
    const { ending } = this.#turn;
    const { usage, timing, error } = ending;
    const facts = [endingWord(ending)];
    if (usage) facts.push(`${usage.output_tokens} tokens`);
    if (timing?.attempts > 1) facts.push(`${timing.attempts} attempts`);
    if (price(ending.cost)) facts.push(price(ending.cost));
    if (error) this.#body.after(errorBox(error, about.again));
    else if (this.#turn.parts.length === 0) this.#body.append(el("p", { class: "nothing", text: "Nothing was said." }));
    this.node.querySelector("footer").append(el("p", { class: "ending", "data-testid": "ending", text: facts.join(" · ") }));
    if (timing?.ttft_ms !== undefined && timing.ttft_ms !== null) {
      this.#numbers.get("First token").title = `Measured by the gateway: ${duration(timing.ttft_ms)}`;
    }
  }
}

function errorBox(error, again) {
  const message = el("p", { class: "error-message", text: error.message });
  const next = el("p", { class: "error-next", text: nextStep(error) });
  const code = el("code", { "data-testid": "error-code", text: error.code });
  const box = el("div", { class: "error", "data-testid": "error" }, icon("alert"), el("div", {}, message, next, code));
  if (error.retryable) box.append(el("button", { type: "button", class: "quiet", text: "Try again", onclick: again }));
  return box;
}
