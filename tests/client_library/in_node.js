/** Runs the cases in Node. `node in_node.js STAGE_URL [WORDS OF A NAME]` writes a JSON map from their names to null or an error. */

// A browser's window is an event target; Node's global object isn't.
const events = new EventTarget();
for (const name of ["addEventListener", "removeEventListener", "dispatchEvent"]) globalThis[name] = events[name].bind(events);

const { outcomes } = await import("./all.js");
process.stdout.write(JSON.stringify(await outcomes(...process.argv.slice(2))), () => process.exit(0));
