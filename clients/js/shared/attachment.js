/** Keeps a conversation attached while anything uses it. Attaching and detaching are otherwise for the whole connection. */

/** How long a turn that runs may take to arrive after the gateway has named it. */
const ARRIVAL_MS = 10_000;

/** What is known of each conversation that is kept attached. */
const kept = new WeakMap();

/**
 * Keeps a conversation attached until `release` is called. If that has failed or has ended, it is attached again.
 *
 * `ready` resolves with the turns that ran when it was attached, as soon as they have arrived. It rejects if the gateway refuses,
 * for example with `not_found`.
 * @param {import("../dist/turnwire.js").Conversation} conversation
 * @returns {{ready: Promise<import("../dist/turnwire.js").Turn[]>, release: () => void}}
 */
export function keepAttached(conversation) {
  let state = kept.get(conversation);
  if (!state) {
    state = { users: 0, timer: null, ready: null, wasAttached: conversation.attached };
    kept.set(conversation, state);
  }
  state.users++;
  clearTimeout(state.timer);
  if (state.ready === null || !conversation.attached) state.ready = attach(conversation);
  let isReleased = false;
  const release = () => {
    if (isReleased) return;
    isReleased = true;
    // It waits for the end of the task: components may be unmounted and mounted again at once.
    if (--state.users === 0) state.timer = setTimeout(() => end(conversation, state));
  };
  return { ready: state.ready, release };
}

function end(conversation, { wasAttached }) {
  kept.delete(conversation);
  if (conversation.attached && !wasAttached) void conversation.detach().catch(() => {});
}

async function attach(conversation) {
  const arrived = [];
  const onTurn = ({ detail }) => void arrived.push(detail);
  conversation.addEventListener("turn", onTurn);
  try {
    const { turns } = await conversation.attach();
    const expected = Object.keys(turns).filter((id) => turns[id].status === "running" || turns[id].status === "queued");
    const isHere = (id) => [...arrived, ...conversation.turns].some((turn) => turn.id === id);
    await until(() => expected.every(isHere), conversation);
    return [...new Set([...conversation.turns, ...arrived.filter(({ id }) => expected.includes(id))])];
  } finally {
    conversation.removeEventListener("turn", onTurn);
  }
}

/** Waits until `holds` returns true, which is asked again with each turn that arrives. */
function until(holds, conversation) {
  if (holds()) return undefined;
  return new Promise((resolve) => {
    const finish = () => {
      clearTimeout(timer);
      conversation.removeEventListener("turn", check);
      resolve();
    };
    const check = () => {
      if (holds()) finish();
    };
    const timer = setTimeout(finish, ARRIVAL_MS);
    conversation.addEventListener("turn", check);
  });
}
