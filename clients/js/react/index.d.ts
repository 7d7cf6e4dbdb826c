/** Types of the hooks for React. */

import type { ReactElement, ReactNode } from "react";
import type {
  Connection, ConnectionState, ConnectOptions, Cost, FinalMessage, FinishReason, Message, Part, StartFields, Timing, Turn, TurnStatus,
  TurnwireError, Usage,
} from "../dist/turnwire.js";

export type ProviderProps = { children?: ReactNode } & (
  /** The application opens and closes the connection. */
  | { connection: Connection }
  /** The options of `connect`. With another `url`, `codec` or `transport`, the provider opens another connection. */
  | ({ connection?: undefined } & ConnectOptions)
);

/** Gives the hooks below it one connection, which is open while any of them is mounted. */
export function TurnwireProvider(props: ProviderProps): ReactElement;

/** Returns the connection of the provider and its state. `connection` is null on a server and until the component is mounted. */
export function useConnection(): { connection: Connection | null; state: ConnectionState };

/** The fields of a start that a component sets for all its turns. */
export type TurnFields = Omit<StartFields, "turn">;

export interface TurnState {
  /** The turn that was started last. */
  turn: Turn | null;
  status: TurnStatus | "idle";
  /** The visible answer so far. */
  text: string;
  parts: readonly Part[];
  /** The message of a turn that has ended. */
  message: FinalMessage | null;
  error: TurnwireError | null;
  /**
   * Starts a turn and stops the one before. An effect that runs twice in `StrictMode` starts it once. To wait for the message,
   * await the turn.
   */
  start: (input?: string | Part[], fields?: TurnFields & { signal?: AbortSignal }) => Turn;
  /** Stops the turn. Resolves when the gateway has answered. */
  stop: (reason?: unknown) => Promise<void>;
}

/** One turn at a time, such as a completion. It is stopped when the component is unmounted. */
export function useTurn(defaults?: TurnFields): TurnState;

/** A message as a component shows it. It never changes: a change makes a new object. */
export interface ChatMessage {
  /** Stays the same from the first frame on. */
  key: string;
  /** Null until the gateway has told it. */
  id: string | null;
  turn: string | null;
  role: Message["role"];
  parts: readonly Part[];
  /** The visible text. */
  text: string;
  /** Of an answer: the status of its turn. Of any other message: `completed`. */
  status: TurnStatus;
  /** The error of an answer that has failed. */
  error: TurnwireError | null;
  parent?: string | null;
  created_at?: string | null;
  model?: string | null;
  usage?: Usage | null;
  cost?: Cost | null;
  timing?: Timing;
  finish_reason?: FinishReason;
  metadata?: Record<string, unknown>;
  rating?: Message["rating"];
}

/** The fields of a start that a component sets for all its turns in a conversation. */
export type ConversationOptions = Omit<StartFields, "turn" | "conversation" | "input" | "messages"> & {
  /** The number of messages that are read at first and by `loadMore`. Default: 100. */
  limit?: number;
};

export interface ConversationState {
  /** The newest branch, oldest first, with the answers that are running. */
  messages: readonly ChatMessage[];
  /**
   * `submitted`: a turn has no part of its answer yet. `streaming`: an answer arrives. `error`: `error` says why the last turn or
   * a request has failed.
   */
  status: "loading" | "ready" | "submitted" | "streaming" | "error";
  error: TurnwireError | null;
  title: string | null;
  /** Whether there are older messages. */
  hasMore: boolean;
  /**
   * Starts a turn. By default it creates the conversation if there is none, and stops what is being answered in it
   * (`on_busy`: `interrupt`). An effect that runs twice in `StrictMode` starts it once.
   */
  send: (input?: string | Part[], fields?: Omit<TurnFields, "conversation"> & { signal?: AbortSignal }) => Turn;
  /** Answers the last message of the user again, in a branch beside the earlier answer. */
  regenerate: (fields?: Omit<TurnFields, "conversation" | "input" | "parent">) => Turn;
  /** Stops all running answers. Resolves when the gateway has answered. */
  stop: (reason?: unknown) => Promise<void>;
  loadMore: () => Promise<void>;
}

/**
 * A conversation with its history and what runs in it, whichever device has started that. It is rendered once for each animation
 * frame at most while text arrives. Its turns go on at the gateway when the component is unmounted.
 */
export function useConversation(id: string, options?: ConversationOptions): ConversationState;
