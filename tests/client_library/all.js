/** All cases. */

import { cases, outcome } from "./harness.js";

/** The cases of a group run one after another, as some replace functions of the console. The groups run concurrently, as they mostly wait. */
const GROUPS = [["reconnect"], ["bad_input"], ["codec", "conversation", "credential", "law", "stop", "stream"]];

const groups = [];
for (const files of [["restart", "fallback"], ...GROUPS]) {
  const first = cases.length;
  for (const file of files) await import(`./${file}_cases.js`);
  groups.push(cases.slice(first));
}
// The cases that restart gateways or wait for another transport wait longest, so each of them is its own group.
groups.push(...groups.shift().map((one) => [one]));

/** Runs the cases whose names contain `words`. Returns a map from their names to null or the error. */
export async function outcomes(url, words = "") {
  const found = {};
  const run = async (group) => {
    for (const one of group.filter(({ name }) => name.includes(words))) found[one.name] = await outcome(one, url);
  };
  await Promise.all(groups.map(run));
  return found;
}
