/** The demos of the empty state. Each takes one click. */

import { el, icon } from "../shared/dom.js";

const QUESTIONS = [
  "What is a WebSocket?",
  "Why do tokens arrive in bursts?",
  "How does a stream resume?",
  "What is an event log?",
  "What happens when I press Stop?",
];
const SLOW = { rate: 14, tokens: 600 };

const DEMOS = [
  {
    name: "five", icon: "split", title: "Five answers at once",
    note: "One socket, five streams, five stop buttons.",
    run: (ask) => QUESTIONS.forEach((text) => ask(text, { rate: 40 })),
  },
  {
    name: "stop", icon: "stop", title: "Stop mid\u2011word",
    note: "Two slow answers. Stop one, and the other continues.",
    run: (ask) => ["Tell me a long story", "Tell me another one"].forEach((text) => ask(text, SLOW)),
  },
  {
    name: "reload", icon: "retry", title: "Reload mid\u2011answer",
    note: "Reload the page while it streams. The answer goes on.",
    run: (ask) => ask("Keep talking while I reload this page", SLOW),
  },
  {
    name: "think", icon: "lightbulb", title: "Think, then answer",
    note: "Reasoning streams too, collapsed until you open it.",
    run: (ask) => ask("How would you explain a stream to a child?", { rate: 45, thinking: true }),
  },
  {
    name: "tool", icon: "tool", title: "Call a tool",
    note: "The model requests a dice roll, and this page runs it.",
    run: (ask) => ask("Roll three dice with 20 sides", { rate: 30, text: "Let me roll those for you.", tool: { name: "roll_dice", arguments: '{"count": 3, "sides": 20}' } }),
  },
  {
    name: "break", icon: "alert", title: "Cut off the provider",
    note: "The answer fails midway. The partial text is kept.",
    run: (ask) => ask("What happens when a provider fails?", { rate: 40, fail: "cut" }),
  },
];

/**
 * Adds a button for each demo.
 * @param {HTMLElement} root
 * @param {(text: string, demo: object) => void} ask starts an answer of the demo model
 */
export function renderDemos(root, ask) {
  root.append(...DEMOS.map(({ name, icon: symbol, title, note, run }) =>
    el("button", { type: "button", class: "demo-card", "data-testid": `demo-${name}`, onclick: () => run(ask) },
      icon(symbol), el("span", { class: "demo-title", text: title }), el("span", { class: "demo-note", text: note }))));
}
