/** The hook for a conversation, such as a chat. */

import { useMemo, useSyncExternalStore } from "react";
import { useHolder } from "./connection.js";
import { ConversationStore } from "./conversation_store.js";
import { useLatest } from "./turn.js";
import { fieldsOf } from "./views.js";

const PAGE = 100;

export function useConversation(id, { limit = PAGE, ...defaults } = {}) {
  const holder = useHolder();
  // Components that show the same conversation share its state, and so the limit of the first one.
  const state = useMemo(() => holder.conversationState(id, () => new ConversationStore(holder, id, limit)), [holder, id]);
  const { subscribe, getSnapshot, getServerSnapshot } = state.store;
  const snapshot = useSyncExternalStore(subscribe, getSnapshot, getServerSnapshot);
  const latest = useLatest(defaults);
  const actions = useMemo(
    () => ({
      send: (input, fields) => state.send(fieldsOf(latest.current, input, fields)),
      regenerate: (fields) => state.regenerate(fieldsOf(latest.current, undefined, fields)),
      stop: (reason) => state.stop(reason),
      loadMore: () => state.loadMore(),
    }),
    [state, latest],
  );
  return useMemo(() => ({ ...snapshot, ...actions }), [snapshot, actions]);
}
