/** The hook for one turn at a time, such as a completion. */

import { useCallback, useEffect, useMemo, useRef, useSyncExternalStore } from "react";
import { useHolder } from "./connection.js";
import { Lifetime } from "./lifetime.js";
import { Store } from "./store.js";
import { copyParts, errorOf, fieldsOf, isSame } from "./views.js";

/** How long a connection that nobody else uses stays open to stop a turn. */
const STOP_MS = 5_000;
const IDLE = { turn: null, status: "idle", text: "", parts: [], message: null, error: null };

/** The turn of one mounted component. */
class TurnStore {
  turn = null;
  #holder;
  #leaveHolder = null;
  #unsubscribe = () => {};
  #fields = null;
  #parts = [];
  #message = null;
  #lifetime = new Lifetime(() => void (this.#leaveHolder = this.#holder.join()), () => this.#end());
  store = new Store(IDLE, () => this.#snapshot(), () => this.#lifetime.join());

  constructor(holder) {
    this.#holder = holder;
  }

  start(fields) {
    if (this.#lifetime.isRemounted && this.turn && isSame(fields, this.#fields)) return this.turn; // an effect that runs twice
    if (!this.#lifetime.isActive) throw new Error("The component isn't mounted. Call `start` in an effect or in an event handler.");
    this.#leave();
    const turn = this.#holder.connection.start(fields);
    this.#fields = fields;
    this.turn = turn;
    this.#parts = [];
    this.#message = null;
    this.#unsubscribe = turn.subscribe(this.store.change);
    const keep = (message) => {
      if (this.turn === turn) this.#message = message;
    };
    turn.then(keep, ({ final }) => keep(final));
    this.store.flush();
    return turn;
  }

  async stop(reason) {
    if (this.turn && !this.turn.ended) await this.turn.cancel(reason);
  }

  #snapshot() {
    const { turn } = this;
    if (turn === null) return IDLE;
    this.#parts = copyParts(turn.parts, this.#parts);
    const { status, text, ending } = turn;
    return { turn, status, text, parts: this.#parts, message: this.#message, error: errorOf(ending) };
  }

  /** Stops the turn, which nobody can see any more. Resolves when the gateway has answered. */
  #leave() {
    this.#unsubscribe();
    return this.stop().catch(() => {});
  }

  #end() {
    // The gateway forgets the requests of a connection that is closed, so it stays open until this one is answered.
    void Promise.race([this.#leave(), pause(STOP_MS)]).then(this.#leaveHolder);
    this.turn = null;
    this.store.flush();
  }
}

export function useTurn(defaults) {
  const holder = useHolder();
  const turns = useMemo(() => new TurnStore(holder), [holder]);
  const { subscribe, getSnapshot, getServerSnapshot } = turns.store;
  const snapshot = useSyncExternalStore(subscribe, getSnapshot, getServerSnapshot);
  const latest = useLatest(defaults);
  const start = useCallback((input, fields) => turns.start(fieldsOf(latest.current, input, fields)), [turns, latest]);
  const stop = useCallback((reason) => turns.stop(reason), [turns]);
  return useMemo(() => ({ ...snapshot, start, stop }), [snapshot, start, stop]);
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Returns a reference to the value of the last render. */
export function useLatest(value) {
  const latest = useRef(value);
  useEffect(() => {
    latest.current = value;
  });
  return latest;
}
