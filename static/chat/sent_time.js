/** The time of a message, shown on hover and always there for screen readers. */

import { el, setText } from "../shared/dom.js";

/**
 * Shows the time in the toolbar of a message's view.
 * @param {HTMLElement} view
 * @param {{created_at?: string, role: string}} message a message without a time is new, and gets the current time
 */
export function showTime(view, message) {
  const toolbar = view.querySelector(":scope > .actions, :scope > footer > .actions");
  if (!toolbar) return;
  let time = toolbar.querySelector(":scope > time");
  if (time && (!message.created_at || time.dateTime === message.created_at)) return;
  const at = message.created_at ?? new Date().toISOString();
  if (!time) toolbar.append((time = el("time", { class: "sent-at" })));
  time.dateTime = at;
  const date = new Date(at);
  time.title = date.toString();
  setText(time, formatTime(date, new Date()));
}

/** Formats a time of today as 9:05, another one as 3 Nov, 9:05. It doesn't use `Intl`, whose first use takes long. */
export function formatTime(date, now) {
  const time = `${date.getHours()}:${String(date.getMinutes()).padStart(2, "0")}`;
  if (date.toDateString() === now.toDateString()) return time;
  const [, month, day, year] = date.toDateString().split(" ");
  return `${Number(day)} ${month}${date.getFullYear() === now.getFullYear() ? "" : ` ${year}`}, ${time}`;
}
