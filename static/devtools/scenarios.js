/**
 * The ways to break it, each with what should happen and the check that it did. Each starts turns that count aloud, so
 * that a missing number is seen with the naked eye too, or takes those that run already.
 */

import { grouped } from "../shared/format.js";

const SETTLE_MS = 90_000;
const PAUSE_MS = 10_000;
const WITNESS_MS = 20_000;
const FAULTS = { before: "upstream_error", mid: "upstream_error", cut: "upstream_incomplete", overloaded: "upstream_overloaded" };

let series = 0;

/** A text that nobody else is told, so that what belongs to another turn shows: it counts on from its own number. */
function counting(numbers) {
  const from = ++series * 1000 + 1;
  return Array.from({ length: numbers }, (_, place) => from + place).join(" ");
}

/**
 * What a scenario is given.
 * @typedef {object} Bench
 * @property {import("../turnwire.js").Connection} connection
 * @property {import("./integrity_check.js").Proof} proof
 * @property {(asked: Asked[]) => Promise<import("../turnwire.js").Turn[]>} start
 * @property {(asked: Asked) => Promise<{turn: import("../turnwire.js").Turn, again: Promise<object>}>} startTwice
 * @property {(label: string) => Promise<void>} pressed resolves when the button, now with this label, is pressed again
 * @property {(words: string) => void} say what goes on
 * @property {() => Promise<boolean>} openDevice whether another tab now follows the conversation, and proves it
 * @property {(ids: string[], timeout_ms: number) => Promise<boolean>} witnessed whether another tab has proven these turns
 *
 * @typedef {{text: string, rate: number, fail?: string, input: string}} Asked what the demo model is to say
 */

export const SCENARIOS = [
  {
    name: "drop", title: "Drop the socket", icon: "split",
    should: "A new socket opens by itself, and every answer goes on at the character where it was.",
    async run(bench) {
      const ids = await someRunning(bench);
      const before = bench.connection.traffic.sockets;
      bench.connection.drop();
      await allWhole(bench, ids);
      const { sockets } = bench.connection.traffic;
      must(sockets > before, "No new socket was opened.");
      return `${answers(ids)} went on over socket ${sockets}.`;
    },
  },
  {
    name: "pause", title: "Stop reading for 10 s", icon: "pause",
    should: "The gateway neither stalls nor piles up without bound; everything is there when reading goes on.",
    async run(bench) {
      const turns = await bench.start(Array.from({ length: 4 }, (_, k) => ({ text: counting(4000), rate: 300, input: `Count fast, number ${k + 1}` })));
      const ids = turns.map(({ id }) => id);
      await underWay(turns);
      const before = turns.map(({ text }) => text.length);
      const until = performance.now() + PAUSE_MS;
      const counter = setInterval(() => bench.say(`Not reading for another ${Math.max(0, Math.ceil((until - performance.now()) / 1000))} s`), 500);
      await bench.connection.pauseReading(PAUSE_MS).finally(() => clearInterval(counter));
      bench.say("Reading again");
      await allWhole(bench, ids);
      const missed = turns.reduce((sum, { text }, k) => sum + text.length - before[k], 0);
      return `${grouped(missed)} characters came after the pause, each once.`;
    },
  },
  {
    name: "offline", title: "Go offline", icon: "offline",
    should: "Nothing is tried until you go online; the answers go on at the gateway and are caught up with.",
    async run(bench) {
      const ids = await someRunning(bench);
      bench.connection.offline();
      bench.say("Offline. The answers go on without this page.");
      await bench.pressed("Go online");
      bench.connection.online();
      bench.say("Catching up");
      await allWhole(bench, ids);
      return `${answers(ids)} caught up.`;
    },
  },
  {
    name: "twice", title: "Send the same start twice", icon: "copy",
    should: "The model is asked once, and there is one answer; the second start is told “attached”.",
    async run(bench) {
      const { turn, again } = await bench.startTwice({ text: counting(60), rate: 30, input: "Count, though you are asked twice" });
      const told = await again;
      must(told.status === "attached", `The second start was told “${told.status}”.`);
      must(told.turn === turn.id, "The second start made another turn.");
      await allWhole(bench, [turn.id]);
      return "The second start was told “attached”.";
    },
  },
  {
    name: "device", title: "Open a second device", icon: "device",
    should: "Another tab joins the conversation and holds the same characters, which it proves for itself.",
    async run(bench) {
      bench.say("Waiting for the other tab");
      must(await bench.openDevice(), "The other tab told nothing. Did the browser block it?");
      const turns = await bench.start(Array.from({ length: 3 }, (_, k) => ({ text: counting(120), rate: 30, input: `Count for two, number ${k + 1}` })));
      const ids = turns.map(({ id }) => id);
      const witnessed = bench.witnessed(ids, WITNESS_MS);
      await allWhole(bench, ids);
      must(await witnessed, "The other tab did not prove the same.");
      return `The other tab has the same ${answers(ids)}.`;
    },
  },
  {
    name: "twenty", title: "Start 20 turns", icon: "plus",
    should: "Twenty answers share this one socket, each in order, and none gets a word of another's.",
    async run(bench) {
      const turns = await bench.start(Array.from({ length: 20 }, (_, k) => ({ text: counting(90), rate: 25, input: `Count, number ${k + 1}` })));
      await allWhole(bench, turns.map(({ id }) => id));
      return `20 answers over ${bench.connection.traffic.sockets} socket${bench.connection.traffic.sockets === 1 ? "" : "s"}, none mixed up.`;
    },
  },
  {
    name: "stop", title: "Stop all", icon: "stop",
    should: "Every running answer ends at once, no character follows, and what was said is kept.",
    async run(bench) {
      await someRunning(bench, { numbers: 600 });
      const { running, state } = bench.connection;
      const asked = state.state === "live" ? bench.connection.traffic.sockets : null;
      const outcomes = await bench.connection.cancel(running, "stopped to see that it stops");
      const lengths = running.map(({ text }) => text.length);
      const records = await allWhole(bench, running.map(({ id }) => id), ["cancelled", "completed", "failed"]);
      // Law 5 speaks of the connection that asked. A new one stops first, and then catches up with what was said before that.
      const caughtUp = bench.connection.traffic.sockets !== asked;
      must(caughtUp || running.every(({ text }, k) => text.length === lengths[k]), "Characters came after the gateway had said that all is stopped (law 5).");
      const stopped = records.filter(({ ended }) => ended.type === "turn.cancelled").length;
      must(stopped === Object.values(outcomes).filter((outcome) => outcome === "cancelled").length, "Not every turn that was said to be cancelled is.");
      return caughtUp ? `${stopped} stopped; what was said until then was caught up with.` : `${stopped} stopped; not a character followed.`;
    },
  },
  {
    name: "cut", title: "Cut the provider", icon: "alert",
    should: "Four answers fail in four ways. What was said until then stays, here and where it is stored.",
    async run(bench) {
      const asked = Object.keys(FAULTS).map((fail) => ({ text: counting(60), rate: 30, fail, input: `Fail: ${fail}` }));
      const turns = await bench.start(asked);
      const records = await allWhole(bench, turns.map(({ id }) => id), ["failed"]);
      for (const [place, fail] of Object.keys(FAULTS).entries()) {
        const { code } = records[place].ended.error;
        must(code === FAULTS[fail], `“${fail}” ended with ${code} in place of ${FAULTS[fail]}.`);
      }
      const kept = records.reduce((sum, { characters }) => sum + characters, 0);
      return `4 failed as they should; ${kept} characters were kept.`;
    },
  },
];

async function someRunning(bench, { numbers = 150 } = {}) {
  const running = bench.connection.running.map(({ id }) => id);
  if (running.length > 0) return running;
  const turns = await bench.start(Array.from({ length: 3 }, (_, k) => ({ text: counting(numbers), rate: 30, input: `Count aloud, number ${k + 1}` })));
  await underWay(turns);
  return turns.map(({ id }) => id);
}

/** Waits until each has said something. */
async function underWay(turns) {
  while (turns.some((turn) => turn.firstAt === null && !turn.ended)) await new Promise((resolve) => setTimeout(resolve, 50));
}

/** Waits for the proof of each turn. Throws where one is not whole, or did not end as it should. */
async function allWhole(bench, ids, endings = ["completed", "cancelled", "failed"]) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`Not every answer has ended after ${SETTLE_MS / 1000} s.`)), SETTLE_MS)));
  const records = await Promise.race([bench.proof.settled(ids), late]).finally(() => clearTimeout(timer));
  for (const { state, failure, ended } of records) {
    must(state === "whole", failure);
    must(endings.includes(ended.type.slice("turn.".length)), `An answer ended ${ended.type.slice("turn.".length)}.`);
  }
  return records;
}

function must(holds, otherwise) {
  if (!holds) throw new Error(otherwise);
}

function answers(ids) {
  return ids.length === 1 ? "1 answer" : `${ids.length} answers`;
}
