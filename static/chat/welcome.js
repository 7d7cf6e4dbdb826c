/** The first thing that a person sees: what this is, and demos that each take one click. */

import { el, icon } from "../shared/dom.js";

const QUESTIONS = [
  "What is a WebSocket?",
  "Why do tokens arrive in bursts?",
  "How does a stream resume?",
  "What is an event log?",
  "What does Stop really stop?",
];
const SLOW = { rate: 14, tokens: 600 };

const DEMOS = [
  {
    name: "five", icon: "split", title: "Five answers at once",
    note: "One socket, five streams, five stop buttons.",
    run: (ask) => QUESTIONS.forEach((text) => ask(text, { rate: 40 })),
  },
  {
    name: "stop", icon: "stop", title: "Stop one mid\u2011word",
    note: "Two slow answers. Press Stop on either; the other doesn't notice.",
    run: (ask) => ["Tell me a long story", "Tell me another one"].forEach((text) => ask(text, SLOW)),
  },
  {
    name: "reload", icon: "again", title: "Reload me mid\u2011answer",
    note: "Then press your browser's reload. Not one word is lost.",
    run: (ask) => ask("Keep talking while I reload this page", SLOW),
  },
  {
    name: "think", icon: "thought", title: "Think, then answer",
    note: "Thoughts stream too, folded away until you look.",
    run: (ask) => ask("How would you explain a stream to a child?", { rate: 45, thinking: true }),
  },
  {
    name: "tool", icon: "tool", title: "Call a tool",
    note: "The model asks for dice; this page rolls them.",
    run: (ask) => ask("Roll three dice with 20 sides", { rate: 30, text: "Let me roll those for you.", tool: { name: "roll_dice", arguments: '{"count": 3, "sides": 20}' } }),
  },
  {
    name: "break", icon: "alert", title: "Cut the provider off",
    note: "The answer breaks in the middle. What was said stays.",
    run: (ask) => ask("What happens when a provider dies?", { rate: 40, fail: "cut" }),
  },
];

/**
 * @param {HTMLElement} root gets a button for each demo
 * @param {(text: string, demo: object) => void} ask starts an answer of the demo model
 */
export function showDemos(root, ask) {
  root.append(...DEMOS.map(({ name, icon: symbol, title, note, run }) =>
    el("button", { type: "button", class: "demo-card", "data-testid": `demo-${name}`, onclick: () => run(ask) },
      icon(symbol), el("span", { class: "demo-title", text: title }), el("span", { class: "demo-note", text: note }))));
}
