/** Unsent prompts, one per conversation. They are kept in `sessionStorage`, so they survive a reload but not the tab. */

const PREFIX = "turnwire.draft ";

/** The drafts that were set on this page: a copy, in case storage is disabled or full. */
const drafts = new Map();

/** Returns a draft. @param {string} conversationId empty: a new conversation */
export function getDraft(conversationId) {
  if (drafts.has(conversationId)) return drafts.get(conversationId);
  try {
    return sessionStorage.getItem(PREFIX + conversationId) ?? "";
  } catch {
    return "";
  }
}

/** Stores a draft; an empty one is deleted. @param {string} conversationId empty: a new conversation */
export function setDraft(conversationId, text) {
  drafts.set(conversationId, text);
  try {
    sessionStorage.removeItem(PREFIX + conversationId); // if the new draft doesn't fit, the old one must not come back
    if (text) sessionStorage.setItem(PREFIX + conversationId, text);
  } catch {
    // The draft is lost on a reload.
  }
}

/** Deletes all drafts, so that the next user doesn't see them. */
export function clearDrafts() {
  drafts.clear();
  try {
    for (const key of Object.keys(sessionStorage)) if (key.startsWith(PREFIX)) sessionStorage.removeItem(key);
  } catch {
    // Storage is disabled: nothing was stored.
  }
}
