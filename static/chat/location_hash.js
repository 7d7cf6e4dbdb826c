/** The page's address: behind the # stands the conversation that is shown. */

/**
 * The conversation that an address names; empty where it names none.
 * @param {string} hash may be written by hand: what can't be decoded names nothing that is there
 */
export function namedIn(hash) {
  try {
    return decodeURIComponent(hash.slice(1));
  } catch {
    return hash.slice(1);
  }
}
