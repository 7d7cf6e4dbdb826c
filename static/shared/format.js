/** Formats numbers as short text. */

/** Formats a duration in ms: 84 ms, 1.24 s, 12.4 s, 2 m 05 s. Null gives a dash. */
export function formatDuration(ms) {
  if (ms === null) return "–";
  // Each bound is where the rounded number would have one digit more.
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < 9995) return `${(ms / 1000).toFixed(2)} s`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} m ${String(seconds % 60).padStart(2, "0")} s`;
}

/** Formats an integer with commas: 1,234,567. It doesn't use `Intl`, whose first use would delay a repaint. */
export function formatCount(number) {
  return String(number).replace(/\B(?=(?:\d{3})+$)/g, ",");
}

/** Formats a token rate: 41 tok/s, or ≈ 41 tok/s if it is estimated. @param {{perSecond: number, estimated: boolean}} rate */
export function formatRate({ perSecond, estimated }) {
  const number = perSecond < 10 ? perSecond.toFixed(1) : String(Math.round(perSecond));
  return `${estimated ? "≈ " : ""}${number} tok/s`;
}

/** Formats a cost without needless zeros; null if it is unknown or zero. Amounts are decimal strings. */
export function formatCost(cost) {
  if (!cost || Number(cost.amount) === 0) return null;
  const amount = cost.amount.replace(/(\.\d\d\d*?)0+$/, "$1");
  return cost.currency === "USD" ? `$${amount}` : `${amount} ${cost.currency}`;
}

/** Formats a size in bytes: 84 B, 1.2 KB, 3.4 MB. */
export function formatBytes(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} KB`;
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

/** Shortens a turn id for display. An undefined id gives an empty text. */
export function shortId(turn) {
  return turn === undefined ? "" : turn.length > 7 ? `…${turn.slice(-5)}` : turn;
}
