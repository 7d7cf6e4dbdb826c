/** Numbers as short text. */

/** 84 ms, 1.24 s, 12.4 s, 2 m 05 s; a dash for what isn't known. */
export function duration(ms) {
  if (ms === null) return "–";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(2)} s`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} m ${String(seconds % 60).padStart(2, "0")} s`;
}

/** 1,234,567; the first number that a browser formats itself costs it a frame. */
export function grouped(number) {
  return String(number).replace(/\B(?=(?:\d{3})+$)/g, ",");
}

/** ≈ 41 tok/s while it is estimated. */
export function speed(rate) {
  if (rate === null) return "–";
  const number = rate.perSecond < 10 ? rate.perSecond.toFixed(1) : String(Math.round(rate.perSecond));
  return `${rate.estimated ? "≈ " : ""}${number} tok/s`;
}

/** Prices are amounts as text; only the zeros that say nothing go. */
export function price(cost) {
  if (!cost || Number(cost.amount) === 0) return null;
  const amount = cost.amount.replace(/(\.\d\d\d*?)0+$/, "$1");
  return cost.currency === "USD" ? `$${amount}` : `${amount} ${cost.currency}`;
}

/** 84 B, 1.2 KB, 3.4 MB. */
export function bytesOf(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} KB`;
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
