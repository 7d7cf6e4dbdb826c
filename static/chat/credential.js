/** The key or token that a person signed in with: kept in this tab's sessionStorage, sent as a header, never in an address. */

const KEY = "turnwire.credential";
/** What a header can carry; keys and tokens have nothing else. */
const SENDABLE = /^[\x21-\x7e]+$/;

let kept = null;

/** @returns {string | null} */
export function credential() {
  try {
    return sessionStorage.getItem(KEY) ?? kept;
  } catch {
    return kept;
  }
}

/** Keeps it, as long as the page lasts where storage is off; null forgets it. */
export function keepCredential(value) {
  kept = value;
  try {
    if (value === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, value);
  } catch {
    // Storage is off: a reload asks again.
  }
}

/** What was pasted, without the spaces and the word in front that come along; null where it can't be one. */
export function pasted(text) {
  const value = text.trim().replace(/^bearer\s+/i, "");
  return SENDABLE.test(value) ? value : null;
}

/** The header that says who asks, for a request to the gateway beside this page. */
export function authorization(value = credential()) {
  return value ? { authorization: `Bearer ${value}` } : {};
}
