/** The page's URL names the shown conversation in its hash. */

/**
 * Returns the conversation id in a URL hash; empty if there is none.
 * @param {string} hash may be typed by hand; if it can't be decoded, it is used as is
 */
export function conversationIdFromHash(hash) {
  try {
    return decodeURIComponent(hash.slice(1));
  } catch {
    return hash.slice(1);
  }
}
