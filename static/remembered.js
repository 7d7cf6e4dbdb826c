/** What this tab would lose by a reload: the conversation and its turns, row by row. Kept by the tab, gone with it. */

const KEY = "turnwire.page";
const TURNS_MAX = 30;

/** @returns {{conversation: string | null, rows: string[][]}} */
export function recall() {
  try {
    const { conversation = null, rows = [] } = JSON.parse(sessionStorage.getItem(KEY)) ?? {};
    return { conversation, rows };
  } catch {
    return { conversation: null, rows: [] };
  }
}

/** Remembers the newest turns; older ones stay in the gateway's history only. */
export function remember({ conversation, rows }) {
  const kept = [];
  let room = TURNS_MAX;
  for (const row of rows.toReversed()) {
    if ((room -= row.length) < 0) break;
    kept.unshift(row);
  }
  try {
    sessionStorage.setItem(KEY, JSON.stringify({ conversation, rows: kept }));
  } catch {
    // Storage is off: a reload then starts empty.
  }
}
