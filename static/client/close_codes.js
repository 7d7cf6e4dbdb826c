/** WebSocket close codes: their meaning in words, and whether to reconnect. */

export const UNAUTHENTICATED = 4401;
export const LIFETIME_REACHED = 4502;
/** Sent by this client when it drops a socket and will open another. */
export const SOCKET_DROPPED = 4000;
export const NORMAL_CLOSURE = 1000;

/** For any other code, the reason that the gateway sent is shown, or if it is empty, a lost connection. */
const REASONS = new Map([
  [4400, "The gateway rejected this page's messages"],
  [4401, "Sign-in is missing or has expired"],
  [4403, "An operator closed this connection"],
  [4408, "No sign-in was sent in time"],
  [4409, "Too many open connections for this user"],
  [4501, "This page read too slowly"],
  [4502, "The connection reached its maximum lifetime"],
  [4503, "The gateway is restarting"],
]);

/** Returns the reason for a close code as text. @returns {string | undefined} */
export function closeReason(code) {
  return REASONS.get(code);
}

/** Returns whether a reconnect would be refused again: 44xx. */
export function isFinal(code) {
  return code >= 4400 && code < 4500;
}
