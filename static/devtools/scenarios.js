/**
 * The break-it scenarios. Each has an expected result and checks as much of it as the page can observe.
 *
 * A scenario uses the turns that are running, or starts turns whose text is a series of numbers, so that a missing number
 * is easy to see.
 */

import { formatCount } from "../shared/format.js";

const SETTLE_MS = 90_000;
const PAUSE_MS = 10_000;
const PEER_MS = 20_000;
const FAULTS = { before: "upstream_error", mid: "upstream_error", cut: "upstream_incomplete", overloaded: "upstream_overloaded" };

let series = 0;

/**
 * Returns `length` consecutive numbers as text. Each call begins with a different number, so that text from another turn
 * is detected.
 */
function countingText(length) {
  const from = ++series * 1000 + 1;
  return Array.from({ length }, (_, index) => from + index).join(" ");
}

/**
 * What a scenario gets from the panel.
 * @typedef {object} ScenarioContext
 * @property {import("../turnwire.js").Connection} connection
 * @property {import("./integrity_check.js").IntegrityCheck} integrity
 * @property {(requests: DemoRequest[]) => Promise<import("../turnwire.js").Turn[]>} start starts a turn for each
 *   request
 * @property {(request: DemoRequest) => Promise<{turn: import("../turnwire.js").Turn, second: Promise<object>}>}
 *   startTwice starts a turn, and sends its start again; `second` is the answer to the second start
 * @property {(label: string) => Promise<void>} waitForPress shows `label` on the button; resolves when it is pressed
 * @property {(text: string) => void} setStatus
 * @property {() => Promise<boolean>} openPeer opens another tab; returns whether it follows the conversation
 * @property {(ids: string[], timeout_ms: number) => Promise<boolean>} confirmedByPeer returns whether another tab has
 *   verified these turns
 *
 * @typedef {{text: string, rate: number, fail?: string, input: string}} DemoRequest what the demo model answers, at
 *   `rate` tokens per second
 */

export const SCENARIOS = [
  {
    name: "drop", title: "Drop the socket", icon: "split",
    expected: "A new socket opens, and every answer continues from its last character.",
    async run(context) {
      const ids = await ensureRunning(context);
      const before = context.connection.traffic.sockets;
      context.connection.drop();
      await waitForChecks(context, ids);
      const { sockets } = context.connection.traffic;
      assert(sockets > before, "No new socket was opened.");
      return `${answerCount(ids)} continued over socket ${sockets}.`;
    },
  },
  {
    name: "pause", title: "Stop reading for 10 s", icon: "pause",
    expected: "The gateway neither stalls nor buffers without limit. Everything arrives when reading resumes.",
    async run(context) {
      const turns = await context.start(Array.from({ length: 4 }, (_, k) => ({ text: countingText(4000), rate: 300, input: `Count fast (${k + 1})` })));
      const ids = turns.map(({ id }) => id);
      await allStarted(turns);
      const before = turns.map(({ text }) => text.length);
      const until = performance.now() + PAUSE_MS;
      const timer = setInterval(() => context.setStatus(`Reading paused, ${Math.max(0, Math.ceil((until - performance.now()) / 1000))} s left`), 500);
      await context.connection.pauseReading(PAUSE_MS).finally(() => clearInterval(timer));
      context.setStatus("Reading resumed");
      await waitForChecks(context, ids);
      const received = turns.reduce((sum, { text }, k) => sum + text.length - before[k], 0);
      return `${formatCount(received)} characters arrived after the pause, each once.`;
    },
  },
  {
    name: "offline", title: "Go offline", icon: "offline",
    expected: "The page stays offline until you go online. The answers continue on the gateway, and the page catches up.",
    async run(context) {
      const ids = await ensureRunning(context);
      context.connection.offline();
      context.setStatus("Offline. The answers continue on the gateway.");
      await context.waitForPress("Go online");
      context.connection.online();
      context.setStatus("Catching up");
      await waitForChecks(context, ids);
      return `${answerCount(ids)} caught up.`;
    },
  },
  {
    name: "twice", title: "Send the same start twice", icon: "copy",
    expected: "The model is called once and answers once. The second start returns “attached”.",
    async run(context) {
      const { turn, second } = await context.startTwice({ text: countingText(60), rate: 30, input: "Count (sent twice)" });
      const result = await second;
      assert(result.status === "attached", `The second start returned “${result.status}”.`);
      assert(result.turn === turn.id, "The second start created another turn.");
      await waitForChecks(context, [turn.id]);
      return "The second start returned “attached”.";
    },
  },
  {
    name: "device", title: "Open a second device", icon: "device",
    expected: "Another tab joins the conversation, receives the same characters, and verifies them itself.",
    async run(context) {
      context.setStatus("Waiting for the other tab");
      assert(await context.openPeer(), "The other tab didn't respond. Check whether the browser blocked it.");
      const turns = await context.start(Array.from({ length: 3 }, (_, k) => ({ text: countingText(120), rate: 30, input: `Count for two tabs (${k + 1})` })));
      const ids = turns.map(({ id }) => id);
      const confirmed = context.confirmedByPeer(ids, PEER_MS);
      await waitForChecks(context, ids);
      assert(await confirmed, "The other tab didn't verify the same turns.");
      return `The other tab has the same ${answerCount(ids)}.`;
    },
  },
  {
    name: "twenty", title: "Start 20 turns", icon: "plus",
    expected: "Twenty answers share this socket. Each arrives in order, and none gets text of another.",
    async run(context) {
      const turns = await context.start(Array.from({ length: 20 }, (_, k) => ({ text: countingText(90), rate: 25, input: `Count (${k + 1})` })));
      await waitForChecks(context, turns.map(({ id }) => id));
      const { sockets } = context.connection.traffic;
      return `20 answers over ${sockets} socket${sockets === 1 ? "" : "s"}, none mixed up.`;
    },
  },
  {
    name: "stop", title: "Stop all", icon: "stop",
    expected: "Every running answer stops at once. No characters follow, and the text so far is kept.",
    async run(context) {
      await ensureRunning(context, { numbers: 600 });
      const { running, state } = context.connection;
      const socketBefore = state.state === "live" ? context.connection.traffic.sockets : null;
      const outcomes = await context.connection.cancel(running, "stopped by a break-it scenario");
      const lengths = running.map(({ text }) => text.length);
      const records = await waitForChecks(context, running.map(({ id }) => id), ["cancelled", "completed", "failed"]);
      // Law 5 applies to the connection that sent the request. On a new socket the cancel is sent first, and text from
      // before the stop may arrive after its answer.
      const reconnected = context.connection.traffic.sockets !== socketBefore;
      assert(reconnected || running.every(({ text }, k) => text.length === lengths[k]), "Characters arrived after the gateway had confirmed the stop (law 5).");
      const stopped = records.filter(({ ending }) => ending.type === "turn.cancelled").length;
      assert(stopped === Object.values(outcomes).filter((outcome) => outcome === "cancelled").length, "The stopped turns differ from those that the gateway confirmed.");
      return reconnected ? `${stopped} stopped. The text from before the stop has arrived.` : `${stopped} stopped. No characters followed.`;
    },
  },
  {
    name: "cut", title: "Cut the provider", icon: "alert",
    expected: "Four answers fail in four ways. The text so far is kept, on this page and on the gateway.",
    async run(context) {
      const requests = Object.keys(FAULTS).map((fail) => ({ text: countingText(60), rate: 30, fail, input: `Fail: ${fail}` }));
      const turns = await context.start(requests);
      const records = await waitForChecks(context, turns.map(({ id }) => id), ["failed"]);
      for (const [index, fail] of Object.keys(FAULTS).entries()) {
        const { code } = records[index].ending.error;
        assert(code === FAULTS[fail], `“${fail}” ended with ${code} instead of ${FAULTS[fail]}.`);
      }
      const kept = records.reduce((sum, { characters }) => sum + characters, 0);
      return `4 failed as expected. ${kept} characters were kept.`;
    },
  },
];

/** Returns the ids of the running turns. Starts three turns of `numbers` numbers if none is running. */
async function ensureRunning(context, { numbers = 150 } = {}) {
  const running = context.connection.running.map(({ id }) => id);
  if (running.length > 0) return running;
  const turns = await context.start(Array.from({ length: 3 }, (_, k) => ({ text: countingText(numbers), rate: 30, input: `Count aloud (${k + 1})` })));
  await allStarted(turns);
  return turns.map(({ id }) => id);
}

/** Waits until each turn has some text or has ended. */
async function allStarted(turns) {
  while (turns.some((turn) => turn.firstAt === null && !turn.ended)) await new Promise((resolve) => setTimeout(resolve, 50));
}

/**
 * Waits for the integrity check of each turn and returns the records.
 * @throws {Error} a check failed, a turn's ending is not one of `endings`, or not all are checked after 90 s
 */
async function waitForChecks(context, ids, endings = ["completed", "cancelled", "failed"]) {
  let timer;
  const timeout = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`Some answers haven't ended after ${SETTLE_MS / 1000} s.`)), SETTLE_MS)));
  const records = await Promise.race([context.integrity.results(ids), timeout]).finally(() => clearTimeout(timer));
  for (const { state, failure, ending } of records) {
    assert(state === "passed", failure);
    const status = ending.type.slice("turn.".length);
    assert(endings.includes(status), `An answer ended as ${status}.`);
  }
  return records;
}

function assert(condition, message) {
  if (!condition) throw new Error(message);
}

function answerCount(ids) {
  return ids.length === 1 ? "1 answer" : `${ids.length} answers`;
}
