/** Every case. */

import { cases, outcome } from "./harness.js";

/** Those of a lane run one after the other, as some listen to the console; the lanes side by side, as most of it is waiting. */
const LANES = [["reconnect"], ["codec", "conversation", "credential", "law", "stop", "stream"]];

const lanes = [];
for (const files of [["restart"], ...LANES]) {
  const first = cases.length;
  for (const file of files) await import(`./${file}_cases.js`);
  lanes.push(cases.slice(first));
}
// Gateways that end and begin are waited for longest: each case has a lane of its own.
lanes.push(...lanes.shift().map((one) => [one]));

/** Runs the cases whose names have these words; gives a map from their names to null or what went wrong. */
export async function outcomes(url, words = "") {
  const found = {};
  const run = async (lane) => {
    for (const one of lane.filter(({ name }) => name.includes(words))) found[one.name] = await outcome(one, url);
  };
  await Promise.all(lanes.map(run));
  return found;
}
