/** Types of turnwire.js. docs/protocol.md defines the protocol. */

export type CodecName = "json" | "msgpack";

export interface Codec<Encoded, Decodable = Encoded> {
  readonly name: CodecName;
  readonly subprotocol: string;
  encode(frame: unknown): Encoded;
  decode(data: Decodable): any;
  /** Returns the size of an encoded frame in bytes, without WebSocket's own 2 to 14 bytes. */
  bytes(data: Decodable): number;
}

/** Both codecs, for example to compare sizes: `codecs.json.bytes(codecs.json.encode(frame))`. */
export const codecs: Readonly<{
  json: Codec<string>;
  msgpack: Codec<Uint8Array, ArrayBuffer | Uint8Array>;
}>;

/** `auto`: HTTP where the gateway answers, but no WebSocket opens, and a WebSocket again as soon as one opens. */
export type Transport = "auto" | "socket" | "http";

/** A class of WebSockets: that of the runtime, or that of the package `ws`. */
export type WebSocketClass = new (url: string, protocols?: any, options?: any) => any;

export interface ConnectOptions {
  /** The gateway's WebSocket URL, `ws:` or `wss:`. Without a path, it gets `/ws`. Default: `socketUrl()`, in a page. */
  url?: string | URL;
  codec?: CodecName;
  /**
   * Default `auto`. Over HTTP, turns are streamed as server-sent events. Changes of attached conversations and of the list are
   * noticed within 10 s, but turns that others start there don't arrive, and a `ticket` can't be used.
   */
  transport?: Transport;
  /**
   * Returns a credential, for the frame `auth` and for the header `Authorization`. Called for each new socket and shortly
   * before the credential expires. One that doesn't expire, such as an API key, may be given as a text.
   */
  token?: string | (() => string | Promise<string>);
  /**
   * Returns a one-time ticket (`POST /v1/tickets`); empty if none is needed. Called at the same times as `token`. If
   * either fails for a new socket with an error whose `retryable` is false, the connection closes.
   */
  ticket?: () => string | Promise<string>;
  /** Receives every frame, in and out. */
  wire?: WireObserver | null;
  /** Where the runtime has no WebSocket, as Node 20: that of the package `ws`. Null: there is none. Default: `globalThis.WebSocket`. */
  webSocket?: WebSocketClass | null;
  /** Creates a socket. Default: `new webSocket(url, protocols)`. `token` is the credential, for a header of your own. */
  socket?: (url: string, protocols: string[], token?: string) => WebSocket;
  /** Stores the ids of running turns across a reload. Default: `sessionStorage`. Null: nothing is stored. */
  storage?: Pick<Storage, "getItem" | "setItem"> | null;
}

/**
 * @throws {TurnwireError} `invalid_url`: the URL isn't `ws:` or `wss:`, or has a fragment, or there is none; `unsupported`:
 *   this runtime has no WebSocket, and `transport` is `socket`.
 * @throws {TypeError} the codec or the transport is unknown, or a credential is neither a text nor a function
 */
export function connect(options?: ConnectOptions): Connection;

/** Returns the gateway's WebSocket URL for a page: `ws` relative to the page, so that a path prefix works. */
export function socketUrl(page?: string): string;

export type WireObserver = (entry: WireEntry) => void;

export interface WireEntry {
  direction: "in" | "out";
  /** The frame itself. Don't modify it. A token in it is masked. */
  frame: Frame;
  /** The encoded size in bytes, without WebSocket's own 2 to 14 bytes. */
  bytes: number;
  /** In ms from `performance.now()`. */
  at: number;
  codec: CodecName;
  /** The number of the connection's socket, from 1. */
  socket: number;
}

export interface Traffic {
  sockets: number;
  in: { frames: number; bytes: number };
  out: { frames: number; bytes: number };
}

export type ConnectionState =
  | { state: "connecting" }
  /** `suspect`: the browser says that there is no network, and the gateway, which is on this machine, is asked whether it answers. */
  | { state: "live"; ready: Ready; suspect?: true }
  /**
   * `delay_ms` null: waits until `online()` is called, or with `network` false until there is a network again; that is also
   * tried every 15 s.
   */
  | { state: "waiting"; delay_ms: number | null; reason: string; network?: false }
  /**
   * `error`: why no connection is possible. Either the gateway's own, such as `forbidden_origin`, or `not_a_gateway`,
   * `unsupported_protocol` or `untrusted_certificate`.
   */
  | { state: "closed"; code: number; reason: string; error?: TurnFailed["error"] };

export interface Ready extends Frame {
  type: "ready";
  protocol: string;
  connection: string;
  instance: string;
  /** Null over HTTP, unless auth is off: HTTP doesn't tell. */
  user: string | null;
  heartbeat_s: number;
  default_model: string;
  limits: { frame_bytes: number; input_bytes: number; turns: number };
}

export interface Frame {
  type: string;
  [field: string]: unknown;
}

/** Types an EventTarget's events: each name with its `detail`. */
export interface Emitter<Events> {
  addEventListener<Name extends keyof Events & string>(
    type: Name,
    listener: (event: CustomEvent<Events[Name]>) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<Name extends keyof Events & string>(
    type: Name,
    listener: (event: CustomEvent<Events[Name]>) => void,
    options?: boolean | EventListenerOptions,
  ): void;
  dispatchEvent(event: Event): boolean;
}

export interface ConnectionEvents {
  /** A new socket is ready, and nothing that waits has been sent on it. A listener that calls `close` prevents that. */
  ready: Ready;
  state: ConnectionState;
  /** In ms. */
  roundtrip: number;
  /** A turn that was started elsewhere, in an attached conversation. */
  turn: Turn;
  violation: LawViolation;
  /** A frame that belongs to no turn of this connection: `durability`, `going_away`, … */
  event: Frame;
  /** A change of the list of conversations, after `attachConversations`. */
  conversations: ListChange;
}

/**
 * A change of the list of conversations. `conversation` is null with `deleted` if all of them were deleted, and with
 * `reattached`: the list was attached again after a lost socket, so list the conversations again.
 */
export type ListChange =
  | { change: "changed"; conversation: string; title: string; updated_at: string; head: string | null; revision: number; pinned: boolean }
  | { change: "deleted"; conversation: string | null }
  | { change: "reattached"; conversation: null };

export interface Connection extends Emitter<ConnectionEvents> {}
export class Connection {
  private constructor();
  readonly state: ConnectionState;
  /** The codec of the current and of the next socket. */
  readonly codec: CodecName;
  /** What the current opening, or the next one, uses. */
  readonly transport: "socket" | "http";
  readonly traffic: Readonly<Traffic>;
  wire: WireObserver | null;
  /** Turns that have not ended, oldest first. */
  readonly running: Turn[];

  /** Starts a turn. If the `turn` id is already running, returns that turn (law 6). */
  start(fields: StartFields & { signal?: AbortSignal }): Turn;
  /** Follows a turn that was started elsewhere, or before a reload, from its first event. */
  follow(turn: string): Turn;
  /**
   * Follows the turns that this tab had started or followed and that were running before a reload. A second call
   * returns none.
   */
  recall(): Turn[];
  /**
   * Cancels several turns with one request. A start that wasn't sent yet is withdrawn. The answer leaves out the
   * withdrawn turns, and those that had ended here before the call.
   */
  cancel(turns: readonly Turn[], reason?: unknown): Promise<Record<string, CancelOutcome>>;
  getTurn(turn: string): Promise<TurnRecord>;
  /** Estimates the tokens and the cost of a start with these fields. Nothing is started. */
  estimate(fields: StartFields): Promise<Estimate>;

  /** Returns the same object for the same id. Sends no request. */
  conversation(id: string): Conversation;
  /** With an id of your own as `conversation`, a second call returns the same conversation and changes nothing. */
  createConversation(fields?: ConversationFields & { conversation?: string }): Promise<Conversation>;
  /** Last changed first. */
  conversations(options?: { query?: string; limit?: number; pinned?: boolean }): Pages<ConversationRecord>;
  /**
   * Attaches to the list of conversations: each change is dispatched as `conversations`, also on later sockets. Attach
   * first, then list the conversations. Resolves when the gateway has answered.
   */
  attachConversations(): Promise<void>;
  detachConversations(): Promise<void>;

  models(): Promise<{ models: Model[]; default: string }>;
  usage(options?: { conversation?: string; since?: string }): Promise<{ usage: Usage; cost: Cost | null }>;
  feedback(message: string, rating: Rating, comment?: string): Promise<Record<string, never>>;
  /** Measures the round trip in ms. It is also measured every 10 s and dispatched as `roundtrip`. */
  ping(): Promise<number>;
  /**
   * Sends any request of the protocol. It waits while there is no socket. Idempotent requests are sent again after a
   * lost socket; others reject with `connection_lost`. Rejects with a TurnwireError.
   */
  request<Result = any>(type: string, fields?: Record<string, unknown>): Promise<Result>;

  /** Reconnects now instead of waiting. */
  retryNow(): void;
  /** Reconnects with another codec. Running turns continue from their positions. */
  switchCodec(codec: CodecName): void;
  /** Drops the socket as if the network had failed. The connection reconnects by itself. */
  drop(): void;
  /** Stays disconnected until `online()`. */
  offline(): void;
  online(): void;
  /**
   * Stops reading for `ms` milliseconds. Resolves when it reads again. Moves to a socket in a worker first. Rejects
   * with `unsupported` where there is no `Worker`.
   */
  pauseReading(ms: number): Promise<void>;
  /** Closes the connection. Turns on the gateway continue, and `recall()` finds them after a reload. */
  close(): void;
}

export interface ConversationEvents {
  /** A turn that was started elsewhere. */
  turn: Turn;
  /** `system` is empty if there is none, and absent if it is too long for an event. */
  updated: { revision: number; title: string; head: string | null; system?: string };
  /**
   * Attached again after a lost socket. Turns that started and ended in between are not reported: read the messages.
   */
  reattached: { revision: number };
  deleted: null;
}

export interface Conversation extends Emitter<ConversationEvents> {}
export class Conversation {
  private constructor();
  readonly id: string;
  readonly attached: boolean;
  /** The revision of the last attach or update. */
  readonly revision: number | null;
  /** Turns of the conversation that this connection follows and that have not ended. */
  readonly turns: Turn[];
  start(fields: Omit<StartFields, "conversation"> & { signal?: AbortSignal }): Turn;
  estimate(fields: Omit<StartFields, "conversation">): Promise<Estimate>;
  /**
   * Attaches: every turn of the conversation arrives here, also on later sockets. Attach first, then read the messages.
   */
  attach(): Promise<{ conversation: string; revision: number; turns: Record<string, Attached>; gone: Record<string, string | null> }>;
  detach(): Promise<void>;
  get(): Promise<ConversationRecord>;
  update(fields: ConversationFields & { head?: string; pinned?: boolean }): Promise<ConversationRecord>;
  /** Clears the context of later turns. The history stays. */
  clear(): Promise<Record<string, never>>;
  delete(): Promise<Record<string, never>>;
  /** Lists the messages. Iteration runs from newest to oldest, `all()` from oldest to newest. */
  messages(options?: { limit?: number }): Pages<Message, { messages: Message[]; next?: string }>;
  /** Cancels its running turns, whoever started them. */
  cancel(reason?: unknown): Promise<{ turns: Record<string, CancelOutcome> }>;
  usage(options?: { since?: string }): Promise<{ usage: Usage; cost: Cost | null }>;
}

export interface Pages<Item, Page = { next?: string; [items: string]: unknown }> extends AsyncIterable<Item> {
  /** Iterates the pages themselves. */
  pages(): AsyncIterableIterator<Page>;
  all(): Promise<Item[]>;
}

/**
 * A started turn: an async iterable of its events and a promise of its message.
 *
 * It has one consumer, and its last event is the ending. A slow consumer gets adjacent deltas merged. A canceled turn
 * resolves with the text so far. A failed turn rejects with a TurnwireError whose `final` has that text. Because a turn
 * is a promise, an async function that returns it gives its caller the message. To hand over the turn itself, return it
 * inside an object.
 */
export class Turn implements PromiseLike<FinalMessage>, AsyncIterable<TurnEvent> {
  private constructor();
  readonly id: string;
  readonly conversation: string | null;
  readonly model: string | null;
  /** The user's message. */
  readonly input: Message | null;
  /** The id under which the answer is stored when the turn has ended. Null until the turn has started. */
  readonly messageId: string | null;
  /** The message that the answer follows. Null until the turn has started, and without a conversation. */
  readonly parentId: string | null;
  readonly status: TurnStatus;
  /** The message so far. Events modify this array in place, but `turn.reset` begins a new one. */
  readonly parts: Part[];
  /** The position that a reconnect continues from. */
  readonly position: Position;
  /** Null until the turn has ended. */
  readonly ending: Ending | null;
  readonly ended: boolean;
  /** The visible answer so far: the text parts joined. */
  readonly text: string;
  /** The prompt: the text parts of `input` joined. */
  readonly inputText: string;
  /** Resolves when the gateway has accepted or attached the turn; rejects if it refuses. */
  readonly accepted: Promise<{ turn: string; conversation: string | null; status: string; epoch: number }>;
  readonly done: Promise<FinalMessage>;
  /**
   * When this object was created, and when the turn's first and its last delta arrived, in ms from `performance.now()`.
   */
  readonly askedAt: number;
  readonly firstAt: number | null;
  readonly lastAt: number | null;
  /** Cancels it. Resolves when the gateway has answered; no more text follows (law 5). */
  cancel(reason?: unknown): Promise<Record<string, CancelOutcome>>;
  /**
   * Calls the listener after each event, when the properties of the turn have changed. Any number of listeners can be
   * added, beside the one consumer of the events. Returns a function that removes the listener.
   */
  subscribe(listener: (turn: Turn) => void): () => void;
  then<A = FinalMessage, B = never>(
    fulfilled?: ((message: FinalMessage) => A | PromiseLike<A>) | null,
    rejected?: ((error: TurnwireError) => B | PromiseLike<B>) | null,
  ): Promise<A | B>;
  catch<B = never>(rejected?: ((error: TurnwireError) => B | PromiseLike<B>) | null): Promise<FinalMessage | B>;
  finally(settled?: (() => void) | null): Promise<FinalMessage>;
  [Symbol.asyncIterator](): AsyncIterator<TurnEvent>;
}

/** Returns when an event arrived, in ms from `performance.now()`. Merged deltas have the time of the first. */
export function arrivedAt(event: TurnEvent): number;

export class TurnwireError extends Error {
  constructor(error: { code: string; message: string; retryable?: boolean; retry_after_ms?: number; path?: string; stored_message?: string });
  /**
   * A code of the protocol or of this client: `connection_lost`, `connection_closed`, `withdrawn`, `unsupported`,
   * `law_violation`, `invalid_url`, `not_a_gateway`, `unsupported_protocol`, `untrusted_certificate`, `unavailable`,
   * `listener_failed` (reported, not thrown).
   */
  readonly code: string;
  readonly retryable: boolean;
  readonly retry_after_ms?: number;
  readonly path?: string;
  readonly stored_message?: string;
  /** The message so far, if a turn failed. */
  readonly final?: FinalMessage;
}

/** The gateway broke law 1 or 2. */
export class LawViolation extends TurnwireError {
  constructor(message: string);
}

export interface Position {
  epoch: number;
  seq: number;
}

export type TurnStatus =
  | "starting" | "queued" | "running" | "waiting" | "retrying" | "fallback" | "continued"
  | "completed" | "cancelled" | "failed";

export type CancelOutcome = "cancelled" | "already_ended" | "not_found";

export interface StartFields {
  turn?: string;
  conversation?: string;
  /** If you have no conversation with the id `conversation`, creates one with this id. */
  create?: boolean;
  model?: string;
  input?: string | Part[];
  parent?: string;
  /** Goes on from the answer `parent`, in a new answer beside it. */
  continue?: boolean;
  messages?: Array<Pick<Message, "role" | "parts">>;
  system?: string;
  params?: Params;
  tools?: Tool[];
  tool_choice?: "auto" | "none" | "required" | { name: string };
  on_busy?: "parallel" | "queue" | "reject" | "interrupt";
  on_disconnect?: "continue" | "cancel";
  metadata?: Record<string, unknown>;
}

export interface Estimate {
  model: string;
  input_tokens: number;
  /** The maximum length of the answer, by the request and the model. Null: there is no bound. */
  output_tokens_max: number | null;
  estimated: true;
  context_window: number | null;
  /** The number of messages that would be left out of the context. */
  trimmed: number;
  /** The cost of the input alone. Null: no price is known. */
  cost: Cost | null;
  /** The cost with an answer of `output_tokens_max`. */
  cost_max: Cost | null;
}

export interface Params {
  temperature?: number;
  top_p?: number;
  max_tokens?: number;
  stop?: string[];
  seed?: number;
  reasoning?: "none" | "low" | "medium" | "high" | "max";
  response_format?: Record<string, unknown>;
  demo?: Record<string, unknown>;
}

export interface Tool {
  name: string;
  description?: string;
  parameters?: Record<string, unknown>;
}

export type TurnEvent = TurnStarted | TurnStatusChanged | TurnPart | TurnDelta | TurnReset | Ending;

interface OfTurn {
  turn: string;
  seq?: number;
}

export interface TurnStarted extends OfTurn {
  type: "turn.started";
  epoch: number;
  status: "running" | "queued";
  conversation: string | null;
  model: string;
  input: Message | null;
  message: string;
  parent: string | null;
}

export interface TurnStatusChanged extends OfTurn {
  type: "turn.status";
  status: "queued" | "running" | "waiting" | "retrying" | "fallback" | "trimmed" | "resumed" | "continued";
  position?: number;
  attempt?: number;
  delay_ms?: number;
  model?: string;
  messages?: number;
  epoch?: number;
}

export interface TurnPart extends OfTurn {
  type: "turn.part";
  part: number;
  kind: Part["kind"];
  [field: string]: unknown;
}

export interface TurnDelta extends OfTurn {
  type: "turn.delta";
  seq: number;
  part: number;
  text?: string;
  signature?: string;
  after?: number;
}

export interface TurnReset extends OfTurn {
  type: "turn.reset";
  epoch: number;
  reason: string;
}

export type Ending = TurnCompleted | TurnCancelled | TurnFailed;

interface Ended extends OfTurn {
  usage?: Usage | null;
  cost?: Cost | null;
  timing?: Timing;
  message?: string;
  /** True if this client created the event. */
  local?: true;
}

export type FinishReason = "stop" | "length" | "tool_calls" | "content_filter" | "refusal";

export interface TurnCompleted extends Ended {
  type: "turn.completed";
  finish_reason: FinishReason;
  /** The one of `params.stop` at which the model has stopped, if its provider reports that. */
  stop_sequence?: string;
}

export interface TurnCancelled extends Ended {
  type: "turn.cancelled";
  by: "client" | "disconnect" | "limit" | "admin";
  reason?: string;
}

export interface TurnFailed extends Ended {
  type: "turn.failed";
  error: { code: string; message: string; retryable: boolean; retry_after_ms?: number; path?: string; stored_message?: string };
}

export interface FinalMessage {
  /** Null if this client created the ending. */
  id: string | null;
  turn: string;
  conversation: string | null;
  model: string | null;
  role: "assistant";
  parts: Part[];
  text: string;
  ended: "completed" | "cancelled" | "failed";
  finish_reason: FinishReason | null;
  usage: Usage | null;
  cost: Cost | null;
  timing: Timing | null;
}

export type Part = { signature?: string } & (
  | { kind: "text"; text: string }
  | { kind: "reasoning"; text: string; redacted?: boolean }
  | { kind: "tool_call"; call: string; name: string; arguments: string }
  | { kind: "tool_result"; call: string; output: string; error?: boolean }
  | { kind: "image" | "file"; media_type: string; data?: string; url?: string; name?: string; size?: number }
  | { kind: "citation"; url?: string; title?: string; text?: string }
  | { kind: "refusal"; text: string }
);

export type Rating = "up" | "down" | 1 | 2 | 3 | 4 | 5;

export interface Message {
  id: string;
  role: "user" | "assistant" | "tool" | "system";
  parts: Part[];
  parent: string | null;
  created_at: string;
  turn?: string;
  model?: string;
  usage?: Usage | null;
  cost?: Cost | null;
  ended?: "completed" | "cancelled" | "failed";
  /** Of an answer that is completed. */
  finish_reason?: FinishReason;
  stop_sequence?: string;
  /** Of an answer that was cancelled. */
  by?: TurnCancelled["by"];
  reason?: string;
  /** Of an answer that failed. */
  error?: TurnFailed["error"];
  timing?: Timing;
  /** The provider that was asked last. */
  provider?: string;
  /** The `metadata` of the start whose input this message is. */
  metadata?: Record<string, unknown>;
  /** The feedback that the user gave. */
  rating?: Rating;
  comment?: string;
  truncated?: boolean;
}

export interface ConversationFields {
  title?: string;
  system?: string;
  model?: string;
  metadata?: Record<string, unknown>;
}

export interface ConversationRecord {
  id: string;
  title: string;
  system?: string;
  model?: string;
  metadata: Record<string, unknown>;
  head: string | null;
  revision: number;
  pinned: boolean;
  created_at: string;
  updated_at: string;
  messages: number;
  usage: Usage;
  cost: Cost | null;
  /** In results of a search: the newest message that matches, and its text around the place. */
  match?: { message: string; snippet: string };
}

export type Attached = { conversation: string | null; status: string; epoch: number; from: number } | { error: { code: string; message: string } };

export interface TurnRecord {
  turn: string;
  conversation: string | null;
  status: "queued" | "running" | "completed" | "cancelled" | "failed";
  epoch: number;
  seq: number;
  model: string;
  message?: Message;
  finish_reason?: FinishReason;
  usage?: Usage;
  cost?: Cost | null;
  timing?: Timing;
  error?: { code: string; message: string; retryable: boolean };
}

export interface Model {
  id: string;
  name: string;
  type: string;
  key: string | null;
  features: string[];
  context_window: number | null;
  max_output: number | null;
  available: boolean;
  /** An outdated model, which its provider may have retired. */
  legacy: boolean;
  /** Whether the model can go on from the start of an answer (`continue`). */
  continues: boolean;
}

export interface Usage {
  input_tokens: number;
  output_tokens: number;
  reasoning_tokens?: number;
  /** The part of the input that the provider read from its prompt cache. */
  cache_read_tokens?: number;
  /** The part of the input that the provider wrote to its prompt cache. */
  cache_write_tokens?: number;
  estimated?: boolean;
}

export interface Cost {
  amount: string;
  currency: string;
}

/** Times in ms since the turn was accepted, and the number of requests to providers. */
export interface Timing {
  queued_ms: number;
  ttft_ms?: number;
  total_ms: number;
  attempts: number;
}
