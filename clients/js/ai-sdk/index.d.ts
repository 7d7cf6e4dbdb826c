/** Types of the transport for the AI SDK. */

import type { ChatTransport, UIMessage, UIMessageChunk } from "ai";
import type { CancelOutcome, Connection, ConnectOptions, Cost, StartFields, Timing, Turn } from "../dist/turnwire.js";

/** The fields of `turn.start` that an application may set. The transport itself sets the others. */
export type ChatFields = Omit<StartFields, "turn" | "conversation" | "create" | "input" | "parent" | "continue" | "messages">;

/** The options of `connect` are those of the transport's own connection, which is opened when it is used first. */
export interface TransportOptions extends ConnectOptions {
  /** A connection to use, which `close()` leaves open. Default: the transport opens its own. */
  connection?: Connection;
  /**
   * What each start has: model, system, params, tools and so on. A function is called for each start. The `body` of a request
   * has the same fields, and takes precedence. Default of `on_busy`: `interrupt`.
   */
  start?: ChatFields | (() => ChatFields | Promise<ChatFields>);
  /**
   * Whether `stop()` stops the answer at the gateway. `useChat` also calls it when its component is unmounted. With false, only
   * the reading ends, and `transport.stop(id)` stops the answer. Default: true.
   */
  cancelOnAbort?: boolean;
}

/** The metadata that the transport gives an answer. The numbers are those of its last step. */
export interface AnswerMetadata {
  turn: string;
  /** The id of the stored message. */
  message: string;
  conversation?: string;
  /** The model that has answered. */
  model: string;
  finishReason?: "stop" | "length" | "tool-calls" | "content-filter" | "other";
  usage?: AnswerUsage;
  cost?: Cost;
  timing?: Timing;
  /** Of an answer that has failed. */
  error?: { code: string; message: string; retryable: boolean };
}

/** Numbers of tokens. */
export interface AnswerUsage {
  inputTokens: number;
  outputTokens: number;
  totalTokens: number;
  /** The part of the output that is reasoning. */
  reasoningTokens?: number;
  /** The part of the input that the provider read from its prompt cache. */
  cachedInputTokens?: number;
}

/** A message whose metadata is that of the transport. */
export type TurnwireUIMessage = UIMessage<Partial<AnswerMetadata>>;

/**
 * A transport for `useChat` and the other chats of the AI SDK. The id of a chat is that of its conversation, whose history the
 * gateway keeps, and the id of an answer is that of its turn.
 *
 * An answer is added where the messages of the client end, so an edit or a regeneration makes a branch. A request that is
 * refused rejects, and an answer that fails ends its stream, with a TurnwireError.
 */
export class TurnwireChatTransport<UI_MESSAGE extends UIMessage = TurnwireUIMessage> implements ChatTransport<UI_MESSAGE> {
  constructor(options?: TransportOptions);
  readonly resumeStreamIsReplay: true;
  /** The connection, which is opened if there is none yet. */
  readonly connection: Connection;
  sendMessages: (options: Parameters<ChatTransport<UI_MESSAGE>["sendMessages"]>[0]) => Promise<ReadableStream<UIMessageChunk>>;
  reconnectToStream: (
    options: Parameters<ChatTransport<UI_MESSAGE>["reconnectToStream"]>[0],
  ) => Promise<ReadableStream<UIMessageChunk> | null>;
  /**
   * Returns the messages of a chat, for a page that loads; none if there is no such chat. If an answer is running, they end with
   * what it answers, and `resumeStream` of the chat adds it.
   */
  messages(chatId: string): Promise<UI_MESSAGE[]>;
  /** Stops all running answers of a chat, whoever asked for them. */
  stop(chatId: string, reason?: unknown): Promise<{ turns: Record<string, CancelOutcome> }>;
  /** Calls `onTurn` when another tab or device asks for an answer in a chat. Returns a function that ends that. */
  watch(chatId: string, onTurn: (turn: Turn) => void): () => void;
  /** Closes the connection, if it is the transport's own. */
  close(): void;
}
