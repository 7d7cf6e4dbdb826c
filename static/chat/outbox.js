/**
 * The prompts that the gateway hasn't accepted yet. They are kept in `sessionStorage`, so that a reload without a network
 * loses none: resend.js sends them again, with the same turn id.
 */

const PREFIX = "turnwire.outbox ";
const PROMPTS_MAX = 50;
/** The files and images of a prompt are kept if their base64 has at most this many characters together. */
const DATA_MAX = 1_000_000;

/** Tells prompts of the same millisecond apart. */
let number = 0;

/**
 * A kept prompt.
 * @typedef {object} KeptPrompt
 * @property {string} turn the id of its turn
 * @property {string} group the page's key of its conversation
 * @property {string | null} conversation null: it is created by the first prompt of the group
 * @property {string | null} parent the id of the message that it follows
 * @property {string} [system] the system prompt of a new conversation
 * @property {string} [onBusy]
 * @property {object[]} parts
 * @property {true} [isPartial] its files and images couldn't be kept
 * @property {object[]} requests the fields of `turn.start` for each answer
 * @property {number} at orders them
 */

/** Returns a new turn id: 128 random bits. */
export function newTurnId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `t_${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/** Keeps a prompt. Returns false if only its text could be kept, or nothing. @param {KeptPrompt} prompt */
export function keepPrompt(prompt) {
  if (keys().length >= PROMPTS_MAX) return false;
  const at = Date.now() + (number++ % 1000) / 1000;
  const size = prompt.parts.reduce((sum, { data }) => sum + (data?.length ?? 0), 0);
  if (size <= DATA_MAX && store({ ...prompt, at })) return true;
  store({ ...prompt, parts: prompt.parts.filter(({ kind }) => kind === "text"), isPartial: true, at });
  return false;
}

/** Forgets a prompt: the gateway has it, or refused it. */
export function dropPrompt(turn) {
  remove(PREFIX + turn);
}

/** Returns the kept prompts, oldest first. @returns {KeptPrompt[]} */
export function keptPrompts() {
  return keys().map(load).filter(Boolean).sort((one, other) => one.at - other.at);
}

/** The conversation of a group was created. */
export function setConversationOf(group, conversation) {
  for (const prompt of keptPrompts()) if (prompt.group === group && !prompt.conversation) store({ ...prompt, conversation });
}

/** Deletes all kept prompts, so that the next user doesn't send them. */
export function clearOutbox() {
  for (const key of keys()) remove(key);
}

function keys() {
  try {
    return Object.keys(sessionStorage).filter((key) => key.startsWith(PREFIX));
  } catch {
    return []; // storage is disabled
  }
}

function store(prompt) {
  try {
    sessionStorage.setItem(PREFIX + prompt.turn, JSON.stringify(prompt));
    return true;
  } catch {
    return false;
  }
}

function load(key) {
  try {
    const prompt = JSON.parse(sessionStorage.getItem(key));
    return Array.isArray(prompt?.parts) && Array.isArray(prompt.requests) && prompt.requests.length > 0 ? prompt : null;
  } catch {
    return null;
  }
}

function remove(key) {
  try {
    sessionStorage.removeItem(key);
  } catch {
    // Storage is disabled: nothing was kept.
  }
}
