/** Sends a start that doesn't fit in a frame, such as one with files, over HTTP. Loaded when it is needed. */

import { closeReason, UNAUTHENTICATED } from "./close_codes.js";
import { connectionLost, TurnwireError } from "./errors.js";
import { HttpRequests, Lost } from "./http_requests.js";

const ATTEMPTS = 3;
const RETRY_MS = 500;
const TIMEOUT_MS = 120_000;

/**
 * Starts a turn. Resolves when the gateway has accepted it; its events have to be attached to.
 * @param {string} url the address of the gateway's WebSocket
 * @param {string} [token] the credential
 * @param {object} fields those of `turn.start`, with `turn`
 * @throws {import("./errors.js").TurnwireError} the gateway refuses the start, or can't be reached
 */
export async function startOverHttp(url, token, fields) {
  const requests = new HttpRequests(url, token);
  for (let attempt = 1; ; attempt++) {
    try {
      // The answer is a stream, which begins when the turn is accepted. It isn't read.
      const stop = new AbortController();
      await requests.fetch("POST", "turns", fields, { accept: "text/event-stream" }, AbortSignal.any([stop.signal, AbortSignal.timeout(TIMEOUT_MS)]));
      stop.abort();
      return;
    } catch (error) {
      if (!(error instanceof Lost)) throw error;
      if (error.error) throw new TurnwireError(error.error);
      if (error.code === UNAUTHENTICATED) throw new TurnwireError({ code: "unauthenticated", message: `${closeReason(UNAUTHENTICATED)}.` });
      // The gateway may have the start, and only its answer is lost. A repeated start starts nothing (law 6).
      if (attempt === ATTEMPTS) throw connectionLost();
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}
