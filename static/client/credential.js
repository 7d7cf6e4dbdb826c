/** The credential of a connection, from the function that gives it. */

import { TurnwireError } from "./errors.js";

/** How long the function may take. */
const ANSWER_MS = 10_000;

/** The function for a credential hasn't answered in time. */
export class CredentialTimeout extends TurnwireError {
  /** @param {"token" | "ticket"} name */
  constructor(name) {
    const reason = `The function \`${name}\` hasn't answered within ${ANSWER_MS / 1000} s`;
    super({ code: "credential_timeout", message: `${reason}. Check what it waits for, then try again.`, retryable: true });
    this.reason = reason;
  }
}

/**
 * Returns the function that gives a credential. A token may also be given as a text; a ticket can't, because it opens one socket.
 * @throws {TypeError} it is neither
 */
export function credentialFunction(name, given) {
  if (given === undefined || given === null || typeof given === "function") return given ?? undefined;
  if (name === "token" && typeof given === "string") return () => given;
  throw new TypeError(`\`${name}\` must be a function that returns ${name === "token" ? "a token, or a token" : "a ticket for each socket"}.`);
}

/**
 * Calls the function for a credential. Returns what it gives, or undefined if there is no function.
 * @param {"token" | "ticket"} name the option that the function is
 * @param {() => string | Promise<string>} [give]
 * @throws {CredentialTimeout} and what the function throws
 */
export async function freshCredential(name, give) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new CredentialTimeout(name)), ANSWER_MS)));
  try {
    return await Promise.race([give?.(), late]);
  } finally {
    clearTimeout(timer);
  }
}
