/** Errors with a `code`. */

/** An error from the gateway (docs/protocol.md lists the codes) or from this client. */
export class TurnwireError extends Error {
  /** @param {{code: string, message: string, retryable?: boolean, retry_after_ms?: number, path?: string, stored_message?: string}} error */
  constructor(error) {
    super(error.message);
    this.name = "TurnwireError";
    this.code = error.code;
    this.retryable = error.retryable ?? false;
    this.retry_after_ms = error.retry_after_ms;
    this.path = error.path;
    this.stored_message = error.stored_message;
  }
}

/** The gateway broke law 1 or 2: an event is missing, repeated, or follows the ending. */
export class LawViolation extends TurnwireError {
  constructor(message) {
    super({ code: "law_violation", message });
    this.name = "LawViolation";
  }
}

/** A request doesn't fit in one frame, and wasn't sent. */
export class FrameTooLarge extends TurnwireError {
  constructor() {
    super({ code: "too_large", message: "This message is too large for one frame. Shorten it or send it over HTTP." });
  }
}

/** Creates the error for a request that can't be encoded, such as one with a BigInt or a circular object. */
export function notEncodable(cause) {
  const why = cause.message.split("\n")[0].replace(/\.$/, "");
  const message = `This request can't be encoded: ${why}. Send only texts, finite numbers, booleans, null, and arrays and objects of these.`;
  return Object.assign(new TurnwireError({ code: "invalid_request", message }), { cause });
}

/** Creates the error for a request whose connection was lost before its answer. The gateway may have handled it. */
export function connectionLost() {
  const message = "The connection was lost before the answer came. Try again.";
  return new TurnwireError({ code: "connection_lost", message, retryable: true });
}

/**
 * Creates the error for anything that needs a connection that was closed for good.
 * @param {string} reason without a final period
 */
export function connectionClosed(reason) {
  return new TurnwireError({ code: "connection_closed", message: `${reason}.` });
}
