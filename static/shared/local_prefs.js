/** Small values in `localStorage` that the gateway doesn't store, such as layout choices. */

const KEY = "turnwire.prefs";
const ENTRIES_MAX = 300;

let prefs = null;

function loadPrefs() {
  if (prefs) return prefs;
  try {
    prefs = new Map(JSON.parse(localStorage.getItem(KEY)) ?? []);
  } catch {
    prefs = new Map();
  }
  return prefs;
}

/** Returns the value of a key, or null. @param {string} key @returns {any} */
export function getPref(key) {
  return loadPrefs().get(key) ?? null;
}

/** Stores a value; null deletes the key. Only the 300 most recently stored entries are kept. */
export function setPref(key, value) {
  const entries = loadPrefs();
  entries.delete(key);
  if (value !== null) entries.set(key, value);
  for (const oldest of entries.keys()) {
    if (entries.size <= ENTRIES_MAX) break;
    entries.delete(oldest);
  }
  try {
    localStorage.setItem(KEY, JSON.stringify([...entries]));
  } catch {
    // Storage is disabled or full: the value is kept only until the page is reloaded.
  }
}
