/**
 * A player on top of the JavaScript client, in Node and in a browser. It reads commands, one JSON object a line, and
 * writes answers, events and ends of turns; player.py is the other side.
 *
 * `player(write)` returns the function that takes a command.
 */

import { connect } from "../../static/turnwire.js";

/** @param {(line: object) => void} write @param {() => void} exit */
export function player(write, exit = () => {}) {
  const connections = new Map();
  const turns = new Map();

  async function openConnection({ as, url, codec, transport, token_url }) {
    const token = token_url ? async () => (await fetch(token_url)).text() : undefined;
    const connection = connect({ url, codec, transport, token, storage: null, ...(token && { socket: withOrigin(url) }) });
    const violations = [];
    connection.addEventListener("violation", ({ detail }) => violations.push(String(detail)));
    connections.set(as, { connection, violations });
    await new Promise((resolve, reject) => {
      const settle = ({ state, reason, error }) => {
        if (state === "live") resolve();
        else if (state === "closed") reject(error ?? Object.assign(new Error(reason), { code: "connection_closed" }));
      };
      connection.addEventListener("state", ({ detail }) => settle(detail));
      settle(connection.state);
    });
    return {};
  }

  async function read(name) {
    const { turn } = turns.get(name);
    for await (const event of turn) write({ turn: name, event });
    let error = null;
    await turn.catch((cause) => (error = cause.code));
    write({ turn: name, end: { status: turn.status, text: turn.text, error } });
  }

  const doing = {
    connect: openConnection,
    start({ on, as, fields, user, read: when }) {
      const control = new AbortController();
      const turn = connections.get(on).connection.start({ ...fields, ...(user != null && { as: user }), signal: control.signal });
      turns.set(as, { turn, control });
      if (when !== "later") void read(as);
      return { turn: turn.id };
    },
    attach({ on, as, turn: id }) {
      turns.set(as, { turn: connections.get(on).connection.follow(id) });
      void read(as);
      return {};
    },
    read({ turn }) {
      void read(turn);
      return {};
    },
    async cancel({ turn: name, reason }) {
      const { turn } = turns.get(name);
      const outcomes = await turn.cancel(reason);
      return { outcome: outcomes[turn.id] ?? "already_ended" };
    },
    abort({ turn, reason }) {
      turns.get(turn).control.abort(reason ?? undefined);
      return {};
    },
    request: ({ on, type, fields }) => connections.get(on).connection.request(type, fields ?? {}),
    state({ on }) {
      const { connection, violations } = connections.get(on);
      return { transport: connection.transport ?? "socket", openings: connection.traffic.sockets, violations };
    },
    close({ on }) {
      connections.get(on).connection.close();
      return {};
    },
    exit() {
      for (const { connection } of connections.values()) connection.close();
      return {};
    },
  };

  return async (command) => {
    try {
      write({ id: command.id, ok: await doing[command.do](command) });
    } catch (error) {
      write({ id: command.id, error: { code: error.code ?? error.name, message: error.message } });
    }
    if (command.do === "exit") exit();
  };
}

/** A browser sends the page's origin by itself; Node has to set it. */
function withOrigin(url) {
  if (globalThis.document) return undefined;
  const { host } = new URL(url);
  return (address, protocols) => new WebSocket(address, { protocols, headers: { origin: `http://${host}` } });
}

if (globalThis.process?.stdin) {
  const { createInterface } = await import("node:readline");
  const write = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
  const lines = createInterface({ input: process.stdin });
  // Nothing ends the process by force: it ends when the client has left no timer and no socket.
  const take = player(write, () => lines.close());
  lines.on("line", (line) => void take(JSON.parse(line)));
}
