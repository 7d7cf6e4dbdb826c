/** What can go wrong, as errors with a `code`. */

/** An error of the gateway (its `code` is in the protocol's table) or of this client. */
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

/** The gateway broke a law of its protocol: a hole, a repetition, or an event after the ending. */
export class LawViolation extends TurnwireError {
  constructor(message) {
    super({ code: "law_violation", message });
    this.name = "LawViolation";
  }
}

/** The error of a request whose answer went with the connection: it may have been heard or not. */
export function lost() {
  const message = "The connection was lost before the answer came. Try again.";
  return new TurnwireError({ code: "connection_lost", message, retryable: true });
}

/** The error of whatever needs a connection that will not come back. */
export function closed(reason) {
  return new TurnwireError({ code: "connection_closed", message: `${reason}.` });
}
