/** What the gateway doesn't tell and a reload would lose: what stands side by side, how long answers took, how they were rated. */

const KEY = "turnwire.remembered";
const ENTRIES_MAX = 300;

let kept = null;

function all() {
  if (kept) return kept;
  try {
    kept = new Map(JSON.parse(localStorage.getItem(KEY)) ?? []);
  } catch {
    kept = new Map();
  }
  return kept;
}

/** @param {string} key @returns {any} what was remembered under it */
export function recall(key) {
  return all().get(key) ?? null;
}

/** Remembers a value; null forgets it. Of very many only the newest are kept. */
export function remember(key, value) {
  const entries = all();
  entries.delete(key);
  if (value !== null) entries.set(key, value);
  for (const oldest of entries.keys()) {
    if (entries.size <= ENTRIES_MAX) break;
    entries.delete(oldest);
  }
  try {
    localStorage.setItem(KEY, JSON.stringify([...entries]));
  } catch {
    // Storage is off or full: it is remembered as long as the page lasts.
  }
}
