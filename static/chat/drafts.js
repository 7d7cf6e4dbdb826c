/** What is being written, by conversation: kept over a reload in this tab's `sessionStorage`, and gone with the tab. */

const PREFIX = "turnwire.draft ";

/** Where storage is off or full, drafts last as long as the page. */
const drafts = new Map();

/** @param {string} place the conversation's id; empty: a new one */
export function draftOf(place) {
  if (drafts.has(place)) return drafts.get(place);
  try {
    return sessionStorage.getItem(PREFIX + place) ?? "";
  } catch {
    return "";
  }
}

/** Keeps a draft; an empty one is forgotten. */
export function keepDraft(place, text) {
  drafts.set(place, text);
  try {
    sessionStorage.removeItem(PREFIX + place); // where the new one has no room, no old one comes back in its place
    if (text) sessionStorage.setItem(PREFIX + place, text);
  } catch {
    // A reload starts without it.
  }
}

/** Forgets them all: they are no business of whoever signs in next. */
export function forgetDrafts() {
  drafts.clear();
  try {
    for (const key of Object.keys(sessionStorage)) if (key.startsWith(PREFIX)) sessionStorage.removeItem(key);
  } catch {
    // Nothing was kept.
  }
}
