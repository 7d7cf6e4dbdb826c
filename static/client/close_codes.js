/** What a socket's close code says: to a person, and about coming back. */

export const UNAUTHENTICATED = 4401;
export const LIFETIME_REACHED = 4502;
/** What this side says when it lets go of a socket. */
export const LET_GO = 4000;
export const DONE = 1000;

/** Codes that are missing here are just a lost connection. */
const REASONS = new Map([
  [4400, "The gateway could not understand this page"],
  [4401, "Sign-in is missing or has expired"],
  [4403, "This user may not connect"],
  [4408, "The gateway asked for a sign-in"],
  [4409, "Too many connections for this user"],
  [4501, "This page read too slowly"],
  [4502, "The connection reached its age limit"],
  [4503, "The gateway is restarting"],
]);

/** @returns {string | undefined} */
export function closeReason(code) {
  return REASONS.get(code);
}

/** Coming back would be refused again: 44xx. */
export function isFinal(code) {
  return code >= 4400 && code < 4500;
}
