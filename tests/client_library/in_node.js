/** Runs every case in Node: `node in_node.js STAGE_URL [WORDS OF A NAME]` writes a JSON map from the cases' names to null or what went wrong. */

// A browser's window takes events; Node's global object doesn't.
const events = new EventTarget();
for (const name of ["addEventListener", "removeEventListener", "dispatchEvent"]) globalThis[name] = events[name].bind(events);

const { cases, outcome } = await import("./all.js");
const outcomes = {};
for (const one of cases.filter(({ name }) => name.includes(process.argv[3] ?? ""))) outcomes[one.name] = await outcome(one, process.argv[2]);
process.stdout.write(JSON.stringify(outcomes), () => process.exit(0));
