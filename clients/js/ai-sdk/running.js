/** Finds the turn that runs in a conversation. */

/** How long an attached turn may take to arrive. */
const ARRIVAL_MS = 10_000;

/**
 * Returns `{turn}`, the newest turn that runs in a conversation, or `{turn: null}`. (A turn is also a promise, so it can't be
 * returned alone.) Its events keep arriving until it ends.
 * @param {import("../dist/turnwire.js").Conversation} conversation
 * @param {() => boolean} staysAttached whether the conversation is to stay attached afterwards
 */
export async function findRunning(conversation, staysAttached) {
  const arrived = [];
  const onTurn = ({ detail }) => void arrived.push(detail);
  conversation.addEventListener("turn", onTurn);
  try {
    const { turns } = await conversation.attach();
    const expected = Object.keys(turns).filter((id) => turns[id].status === "running" || turns[id].status === "queued");
    const hasArrived = (id) => [...arrived, ...conversation.turns].some((turn) => turn.id === id);
    await until(() => expected.every(hasArrived), conversation);
    const running = new Set([...conversation.turns, ...arrived.filter(({ id }) => expected.includes(id))]);
    return { turn: [...running].sort((a, b) => startOf(a) - startOf(b)).at(-1) ?? null };
  } catch (error) {
    if (error.code !== "not_found") throw error;
    return { turn: null };
  } finally {
    conversation.removeEventListener("turn", onTurn);
    if (conversation.attached && !staysAttached()) void conversation.detach().catch(() => {});
  }
}

/** Waits until `holds` returns true, which is asked again with each turn that arrives. */
function until(holds, conversation) {
  if (holds()) return undefined;
  return new Promise((resolve) => {
    const check = () => {
      if (holds()) finish();
    };
    const finish = () => {
      clearTimeout(timer);
      conversation.removeEventListener("turn", check);
      resolve();
    };
    const timer = setTimeout(finish, ARRIVAL_MS);
    conversation.addEventListener("turn", check);
  });
}

/** Returns the time of a turn's start in ms. The first epoch of a turn is that time, too. */
function startOf({ input, position }) {
  return Date.parse(input?.created_at) || position.epoch;
}
