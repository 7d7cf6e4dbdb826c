/** The order and the groups of the list of conversations. Has no DOM. */

const DAY_MS = 86_400_000;
const MONTHS = "January February March April May June July August September October November December".split(" ");

/**
 * Groups conversations: the pinned ones, then by the day of their last change, in local time.
 * @param {{id: string, pinned?: boolean, updated_at: string}[]} conversations the latest first
 * @param {Date} now
 * @returns {{title: string, conversations: object[]}[]}
 */
export function groupsOf(conversations, now) {
  const groups = new Map();
  for (const conversation of [...conversations.filter(({ pinned }) => pinned), ...conversations.filter(({ pinned }) => !pinned)]) {
    const title = conversation.pinned ? "Pinned" : dayOf(new Date(conversation.updated_at), now);
    if (!groups.has(title)) groups.set(title, []);
    groups.get(title).push(conversation);
  }
  return [...groups].map(([title, members]) => ({ title, conversations: members }));
}

function dayOf(date, now) {
  const days = Math.round((startOfDay(now) - startOfDay(date)) / DAY_MS); // rounded, as a day may have 23 or 25 hours
  if (!(days > 0)) return "Today";
  if (days === 1) return "Yesterday";
  if (days <= 7) return "Previous 7 days";
  const month = MONTHS[date.getMonth()];
  return date.getFullYear() === now.getFullYear() ? month : `${month} ${date.getFullYear()}`;
}

function startOfDay(date) {
  return new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
}

/**
 * Applies a change of the list to a copy of it.
 * @param {object[]} conversations the latest first
 * @param {object} change a `conversations.changed` event
 * @param {boolean} isComplete whether there are no older ones than these
 */
export function withChange(conversations, change, isComplete) {
  const { conversation: id, change: kind, type: _, ...fields } = change;
  if (kind === "deleted") return id === null ? [] : conversations.filter((other) => other.id !== id);
  const known = conversations.find((other) => other.id === id);
  if (known && known.revision > fields.revision) return conversations;
  const changed = { ...known, id, ...fields };
  // A pin moves nothing.
  if (known?.updated_at === fields.updated_at) return conversations.map((other) => (other === known ? changed : other));
  const others = conversations.filter((other) => other !== known);
  const index = others.findIndex((other) => other.updated_at <= fields.updated_at);
  if (index < 0 && !isComplete && !known && !fields.pinned) return conversations; // its page isn't loaded
  others.splice(index < 0 ? others.length : index, 0, changed);
  return others;
}
