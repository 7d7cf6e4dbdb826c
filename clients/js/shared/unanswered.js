/** Finds a running turn where a conversation can't be attached, because the connection uses HTTP. */

const MESSAGES = 50;

/**
 * Follows the turn of the newest message that has no answer yet. Resolves with `{turn}` when that has started, or with
 * `{turn: null}` if there is none, or if the connection has a socket. (A turn is also a promise, so it can't be returned alone.)
 * @param {import("../dist/turnwire.js").Connection} connection
 * @param {string} conversation id
 */
export async function followUnanswered(connection, conversation) {
  if (connection.transport !== "http") return { turn: null };
  const { messages } = await connection.request("conversation.messages", { conversation, limit: MESSAGES });
  const answered = new Set(messages.map(({ parent }) => parent));
  const asked = messages.findLast(({ id, role, turn }) => role !== "assistant" && turn && !answered.has(id));
  if (!asked) return { turn: null };
  const turn = connection.follow(asked.turn);
  await hasStarted(turn);
  return { turn: turn.messageId === null ? null : turn };
}

/** Resolves when a turn has started or has ended. */
function hasStarted(turn) {
  return new Promise((resolve) => {
    const check = () => {
      if (turn.messageId === null && !turn.ended) return;
      unsubscribe();
      resolve();
    };
    const unsubscribe = turn.subscribe(check);
    check();
  });
}
