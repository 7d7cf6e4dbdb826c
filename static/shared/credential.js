/** The API key or token of the signed-in user. It is kept in `sessionStorage` and sent as a header, never in a URL. */

const KEY = "turnwire.credential";
/** The characters that a header can carry. Keys and tokens have no others. */
const HEADER_VALUE = /^[\x21-\x7e]+$/;

/** A copy of the stored credential, which is used if storage is disabled. */
let inMemory = null;

/** @returns {string | null} */
export function getCredential() {
  try {
    return sessionStorage.getItem(KEY) ?? inMemory;
  } catch {
    return inMemory;
  }
}

/** Stores the credential; null deletes it. */
export function setCredential(value) {
  inMemory = value;
  try {
    if (value === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, value);
  } catch {
    // Storage is disabled: a reload asks for it again.
  }
}

/** Returns the credential in pasted text, without a leading `Bearer` or surrounding whitespace. Null if there is none. */
export function parseCredential(text) {
  const value = text.trim().replace(/^bearer\s+/i, "");
  return HEADER_VALUE.test(value) ? value : null;
}

/** Returns the `authorization` header for a request to the gateway of this page. */
export function authorizationHeader(value = getCredential()) {
  return value ? { authorization: `Bearer ${value}` } : {};
}
