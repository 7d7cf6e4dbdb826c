/** Runs every case in Node: `node in_node.js STAGE_URL [WORDS OF A NAME]` writes a JSON map from the cases' names to null or what went wrong. */

// A browser's window takes events; Node's global object doesn't.
const events = new EventTarget();
for (const name of ["addEventListener", "removeEventListener", "dispatchEvent"]) globalThis[name] = events[name].bind(events);

const { outcomes } = await import("./all.js");
process.stdout.write(JSON.stringify(await outcomes(...process.argv.slice(2))), () => process.exit(0));
