/** The page: wires the connection to the composer, the cards and the pill. Each of those has a file of its own. */

import { endingWord } from "./advice.js";
import { Board } from "./board.js";
import { TurnCard } from "./card.js";
import { Composer } from "./composer.js";
import { ConnectionPill } from "./connection_pill.js";
import { DemoOptions } from "./demo_options.js";
import { el, icon, setText } from "./dom.js";
import { ModelPicker } from "./model_picker.js";
import { recall, remember } from "./remembered.js";
import { connect, socketUrl } from "./turnwire.js";

const find = (selector) => document.querySelector(selector);

const SUGGESTIONS = [
  "Explain backpressure to a new colleague",
  "Show a small asyncio example",
  "Compare WebSocket and SSE in a table",
];
const FIVE = [
  "What is a WebSocket?",
  "Why do tokens arrive in bursts?",
  "How does a stream resume?",
  "What is an event log?",
  "What does Stop really stop?",
];

/** The gateway keeps a turn's events for a time only. */
const FORGOTTEN = new Set(["not_found", "gone"]);

const connection = connect({ url: socketUrl() });
const board = new Board(find(".board"));
const demo = new DemoOptions(find(".demo"), find(".disclose"));
const picker = new ModelPicker(find("#model"), showDemoOptions);
const composer = new Composer(find(".composer"), send);
const running = new Map();
/** The conversation that prompts go to; `id` is a promise from its first turn on. */
let conversation = { id: null };
let count = 0;

async function send(prompt, options = chosen()) {
  find(".empty").hidden = true;
  const here = conversation;
  // Turns sent together share a conversation: all but the first wait until the gateway has named it.
  const id = here.id && (await here.id.catch(() => null));
  const { model, params } = options;
  const turn = connection.start({ input: prompt, model, params, ...(id && { conversation: id }) });
  if (!id) nameConversation(here, turn);
  await show(turn, { prompt, model: model ?? "default model" }, options);
}

/** Gives a turn its card and stays with it to its ending. */
async function show(turn, about, options) {
  const number = ++count;
  const card = new TurnCard(turn, { ...about, number, again: () => void send(turn.inputText || about.prompt, options) });
  board.add(card);
  running.set(card, turn);
  showRunning();
  if (!about.replayed) announce(`Answer ${number} started`);
  keep();
  const ending = await card.finished;
  running.delete(card);
  showRunning();
  if (about.replayed && FORGOTTEN.has(ending.error?.code)) {
    board.remove(card);
    find(".empty").hidden = board.rows.length > 0;
    void keep();
    return;
  }
  announce(ending.error ? `Answer ${number} failed: ${ending.error.message}` : `Answer ${number} ${endingWord(ending)}`);
}

function nameConversation(here, turn) {
  const id = turn.accepted.then((accepted) => accepted.conversation);
  here.id = id;
  id.then(keep, () => {
    if (here.id === id) here.id = null;
  });
}

/** Remembers for a reload which conversation this is and which turns stand on the board. */
async function keep() {
  const here = conversation;
  const id = here.id && (await here.id.catch(() => null));
  if (here === conversation) remember({ conversation: id, rows: board.rows });
}

/** Brings back what stood here before a reload; running turns go on streaming. */
function restore() {
  const { conversation: id, rows } = recall();
  if (!id) return;
  conversation = { id: Promise.resolve(id) };
  find(".empty").hidden = rows.length > 0;
  for (const row of rows) {
    board.startRow();
    for (const turn of row) void show(connection.follow(turn), { replayed: true }, undefined);
  }
}

function chosen() {
  const options = demo.value;
  return { model: picker.value, params: options && { demo: options } };
}

function showDemoOptions() {
  demo.show(picker.value === "demo");
}

function showRunning() {
  const stopAll = find(".stop-all");
  stopAll.hidden = running.size === 0;
  setText(stopAll.querySelector(".stop-words"), running.size > 1 ? "Stop all" : "Stop");
  setText(stopAll.querySelector(".running-count"), running.size > 1 ? String(running.size) : "");
}

function announce(text) {
  find("[aria-live]").append(el("p", { text }));
  if (find("[aria-live]").childElementCount > 8) find("[aria-live]").firstElementChild.remove();
}

function stopNewest() {
  const newest = [...running.keys()].at(-1);
  newest?.stop();
}

function chip(text, onclick, symbol) {
  return el("button", { type: "button", class: symbol ? "chip chip-strong" : "chip", onclick }, ...(symbol ? [icon(symbol)] : []), text);
}

function showChips() {
  const five = chip("Run 5 at once", () => FIVE.forEach((prompt) => void send(prompt)), "split");
  five.dataset.testid = "run-five";
  find(".chips").append(five, ...SUGGESTIONS.map((text) => chip(text, () => void send(text))));
}

async function listModels(ready) {
  try {
    const { models } = await connection.request("models.list");
    picker.show(models, ready.default_model);
    showDemoOptions();
  } catch (error) {
    console.warn("models.list:", error);
  }
}

connection.addEventListener("state", ({ detail }) => {
  document.body.dataset.link = detail.state;
  if (detail.state === "live") void listModels(detail.ready);
});
new ConnectionPill(find(".connection"), connection);
find(".stop-all").addEventListener("click", () => void connection.cancel([...running.values()], "stopped on the page").catch(() => {}));
find(".new-conversation").addEventListener("click", () => {
  conversation = { id: null };
  board.divide("New conversation");
  void keep();
  composer.focus();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing && running.size > 0) stopNewest();
});
showChips();
restore();
