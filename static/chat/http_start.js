/** Starts a turn over HTTP, for a prompt with files that don't fit into a frame. Loaded when it is needed. */

import { TurnwireError } from "../turnwire.js";
import { authorizationHeader } from "../shared/credential.js";

const ATTEMPTS = 2;
const RETRY_MS = 500;

/**
 * Starts a turn. Its events arrive over the connection. Returns `{turn}`, because a turn itself, as a promise, would be awaited.
 * @param {import("../turnwire.js").Connection} connection
 * @param {object} fields those of `turn.start`, with `turn`
 */
export async function startOverHttp(connection, fields) {
  const body = JSON.stringify(fields);
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    await untilLive(connection);
    const stop = new AbortController();
    try {
      const headers = { ...authorizationHeader(), "content-type": "application/json", accept: "text/event-stream" };
      const response = await fetch("v1/turns", { method: "POST", headers, body, signal: stop.signal });
      if (response.ok) {
        stop.abort(); // the turn goes on without this request
        return { turn: connection.follow(fields.turn) };
      }
      const { error } = await response.json().catch(() => ({}));
      return refusedTurn(fields.turn, error ?? { code: "connection_lost", message: `The gateway answered with status ${response.status}.`, retryable: true });
    } catch {
      // The gateway may have the prompt, and only its answer is lost. A repeated start of an accepted turn starts nothing (law 6).
      if (attempt < ATTEMPTS) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
  return refusedTurn(fields.turn, { code: "connection_lost", message: "The prompt couldn't be sent.", retryable: true });
}

/** Returns a turn that has ended before it began. */
function refusedTurn(id, error) {
  const failure = new TurnwireError(error);
  const accepted = Promise.reject(failure);
  accepted.catch(() => {});
  const ending = { type: "turn.failed", turn: id, error: failure, local: true };
  const turn = { id, accepted, ending, ended: true, status: "failed", parts: [], model: null, async *[Symbol.asyncIterator]() {} };
  return { turn };
}

function untilLive(connection) {
  if (connection.state.state === "live" || connection.state.state === "closed") return Promise.resolve();
  return new Promise((resolve) => {
    const onState = ({ detail }) => {
      if (detail.state !== "live" && detail.state !== "closed") return;
      connection.removeEventListener("state", onState);
      resolve();
    };
    connection.addEventListener("state", onState);
  });
}
