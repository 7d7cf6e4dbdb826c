/** The connection of a part of the page: the provider, and the hook that reads it. */

import { createContext, createElement, useContext, useEffect, useMemo, useRef, useSyncExternalStore } from "react";
import { connect } from "../dist/turnwire.js";
import { Lifetime } from "./lifetime.js";
import { Store } from "./store.js";

const CLOSED_AT_FIRST = { connection: null, state: { state: "connecting" } };

/** A connection that is open while components that use it are mounted. */
export class ConnectionHolder {
  connection = null;
  /** The states of the conversations that components show, by id. */
  #conversations = new Map();
  #open;
  #isOwn;
  #lifetime = new Lifetime(() => this.#begin(), () => this.#end());
  #store = new Store(CLOSED_AT_FIRST, () => this.#snapshot(), () => this.join());

  /** @param {() => import("../dist/turnwire.js").Connection} open returns the connection @param {boolean} isOwn whether to close it */
  constructor(open, isOwn) {
    this.#open = open;
    this.#isOwn = isOwn;
  }

  get store() {
    return this.#store;
  }

  /** Keeps the connection open. Returns a function that no longer does. */
  join = () => this.#lifetime.join();

  /** Returns the state of a conversation, which all components share that show it. */
  conversationState(id, make) {
    if (!this.#conversations.has(id)) this.#conversations.set(id, make());
    return this.#conversations.get(id);
  }

  /** Whether components share a state from now on. */
  share(id, state, isShared) {
    if (isShared) this.#conversations.set(id, state);
    else if (this.#conversations.get(id) === state) this.#conversations.delete(id);
  }

  #begin() {
    this.connection = this.#open();
    this.connection.addEventListener("state", this.#store.flush);
    this.#store.flush();
  }

  #end() {
    this.connection.removeEventListener("state", this.#store.flush);
    if (this.#isOwn) this.connection.close();
    this.connection = null;
    this.#store.stop();
  }

  #snapshot() {
    const { connection } = this;
    return connection ? { connection, state: connection.state } : CLOSED_AT_FIRST;
  }
}

const HolderContext = createContext(null);

export function TurnwireProvider({ connection, children, ...options }) {
  const latest = useRef(options);
  useEffect(() => {
    latest.current = options;
  });
  const { url, codec, transport } = options;
  const holder = useMemo(
    () => new ConnectionHolder(() => connection ?? connect({ storage: null, ...withLatest(latest) }), !connection),
    // Another credential function is used from the next time on. Only what names another gateway opens another connection.
    [connection, String(url), codec, transport],
  );
  useEffect(() => holder.join(), [holder]);
  return createElement(HolderContext.Provider, { value: holder }, children);
}

export function useConnection() {
  const { subscribe, getSnapshot, getServerSnapshot } = useHolder().store;
  return useSyncExternalStore(subscribe, getSnapshot, getServerSnapshot);
}

export function useHolder() {
  const holder = useContext(HolderContext);
  if (holder === null) throw new Error("There is no connection. Put the component into a <TurnwireProvider>.");
  return holder;
}

/** Returns the options of a connection that asks for its credentials as the provider's current properties say. */
function withLatest(latest) {
  const options = { ...latest.current };
  for (const name of ["token", "ticket"]) {
    if (options[name]) options[name] = () => current(latest.current[name]);
  }
  return options;
}

function current(credential) {
  return typeof credential === "function" ? credential() : credential;
}
