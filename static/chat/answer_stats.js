/** The numbers below an answer: its time, speed, tokens and cost, and how it ended. */

import { el, setText } from "../shared/dom.js";
import { formatCost, formatCount, formatDuration, formatRate } from "../shared/format.js";
import { endingText } from "./status_text.js";

export class AnswerStats {
  node = el("p", { class: "answer-stats" });

  /** @param {import("./message_tree.js").MessageNode} message */
  update({ ending, usage, cost, timing, timer, trimmedCount }) {
    const stats = [];
    const add = (testid, text, title = "") => text && stats.push({ testid, text, title });
    if (ending) add("ending", endingText(ending));
    if (timer?.ttft_ms != null) add("first-token", formatDuration(timer.ttft_ms), firstTokenTitle(timing));
    if (timer?.total_ms != null) add("total", formatDuration(timer.total_ms), "Total time");
    const rate = timer?.rate(usage);
    if (rate) add("speed", formatRate(rate), "Tokens per second after the first token");
    if (usage) add("tokens", `${formatCount(usage.output_tokens)} token${usage.output_tokens === 1 ? "" : "s"}`, usageTitle(usage));
    if (timing?.attempts > 1) add("attempts", `${timing.attempts} attempts`, "Requests to the provider");
    if (trimmedCount) add("trimmed", `${trimmedCount} message${trimmedCount === 1 ? "" : "s"} omitted`, "The oldest messages didn't fit into the model's context window");
    if (formatCost(cost)) add("cost", formatCost(cost), "Cost of this answer");
    this.#show(stats);
  }

  #show(stats) {
    const nodes = this.node.children;
    for (const [index, { testid, text, title }] of stats.entries()) {
      const node = nodes[index] ?? this.node.appendChild(el("span"));
      if (node.dataset.testid !== testid) node.dataset.testid = testid;
      if (node.title !== title) node.title = title;
      setText(node, text);
    }
    while (nodes.length > stats.length) nodes[nodes.length - 1].remove();
  }
}

function firstTokenTitle(timing) {
  return timing?.ttft_ms == null ? "Time to first token" : `Time to first token; measured by the gateway: ${formatDuration(timing.ttft_ms)}`;
}

function usageTitle(usage) {
  const facts = [`${usage.input_tokens} input, ${usage.output_tokens} output`];
  if (usage.reasoning_tokens) facts.push(`${usage.reasoning_tokens} of them for reasoning`);
  if (usage.cache_read_tokens) {
    const percent = Math.min(100, Math.floor((100 * usage.cache_read_tokens) / usage.input_tokens));
    facts.push(`${usage.cache_read_tokens} of the input from the cache (${percent}%)`);
  }
  if (usage.cache_write_tokens) facts.push(`${usage.cache_write_tokens} written to it`);
  if (usage.estimated) facts.push("estimated");
  return facts.join("; ");
}
