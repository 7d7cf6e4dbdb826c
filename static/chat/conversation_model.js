/**
 * The model of one conversation: its message tree, its running turns, and the operations on them. Has no DOM.
 *
 * Dispatches `messages` (messages were added, removed or moved), `turns` (turns started or ended; `detail.ended` is the
 * node of an ended answer), `first-start` (the start that creates the conversation is sent), `created` (the conversation has
 * its id), `info` (its record or `notFound` changed), `stale` (messages may be missing after a lost socket; see `catchUp`),
 * `not-kept` (a reload would lose the prompt or a part of it).
 */

import { runTools } from "./demo_tools.js";
import { MessageHistory, storeSideBySide } from "./message_history.js";
import { isUnanswered, MessageNode, MessageTree } from "./message_tree.js";
import { dropPrompt, keepPrompt, newTurnId, setConversationOf } from "./outbox.js";
import { TurnTimer } from "./turn_timer.js";

/** The number of pages that are loaded at once. Older pages are loaded on request. */
const INITIAL_PAGES = 5;
/** A model may call tools forever. After this many rounds the user must continue by hand. */
const TOOL_ROUNDS_MAX = 10;
/** A frame has at most 64 KiB. Images are made to fit into it, files and long texts aren't. */
const START_BYTES = 63_000;
const EXPIRED = new Set(["not_found", "gone"]);

export class ConversationModel extends EventTarget {
  id = null;
  /** The page's own key for it: a new conversation has no id yet. */
  key = newTurnId();
  /** The conversation's record: `title`, `head`, … */
  info = null;
  tree = new MessageTree();
  /** The nodes of the streaming answers, by turn id. @type {Map<string, MessageNode>} */
  running = new Map();
  notFound = false;
  /** Why its messages couldn't be loaded: the message of the error. @type {string | null} */
  loadError = null;
  /** Whether its messages are being loaded. */
  loading = false;
  /** Settled when its messages are loaded. @type {Promise<void> | null} */
  loaded = null;
  /** The id of the conversation that was too long, and goes on here. @type {string | null} */
  continuedFrom = null;
  /** The system prompt of a new conversation. Null: see system_prompt.js. @type {string | null} */
  newSystem = null;
  /** The system prompt with which its first start was sent. @type {string | null} */
  sentSystem = null;
  /** A changed system prompt that isn't saved yet. @type {string | null} */
  unsavedSystem = null;
  /** Returns whether tool calls may run without a question. @type {(calls: object[]) => boolean} */
  mayRunTools = () => true;
  #history = new MessageHistory(this.tree, (type, fields) => this.#request(type, fields));
  #connection;
  /** Resolves with the id. Null while a new conversation has no turn that was started or is being started. */
  #idPromise = null;
  #attached = null;
  /** The ids of turns that are being started over HTTP. Their events may arrive before the answer to the start. */
  #startingOverHttp = new Set();
  #closed = new AbortController();
  /** Whether messages may be missing after a lost socket. */
  #isStale = false;

  /**
   * @param {import("../turnwire.js").Connection} connection
   * @param {string | null} id null: a new conversation, created by its first turn
   */
  constructor(connection, id = null) {
    super();
    this.#connection = connection;
    this.id = id;
    if (id) this.#idPromise = Promise.resolve(id);
  }

  /** Whether there are older messages to load. */
  get hasEarlier() {
    return Boolean(this.#history.earlierCursor);
  }

  /** Loads the newest stored messages and follows the running turns. */
  async load() {
    await this.#attach();
    this.info = await this.#request("conversation.get");
    await this.#history.load(this.id, INITIAL_PAGES);
    const head = this.tree.get(this.info.head);
    if (head) this.tree.select(head);
    this.#emit("info");
    this.#emit("messages");
  }

  /** Loads the messages that were missed while the socket was away, if there may be any. */
  async catchUp() {
    // A prompt without an id would be loaded a second time, as another message.
    if (!this.#isStale || [...this.running.values()].some(({ id }) => !id)) return;
    this.#isStale = false;
    const orphans = [...this.running.values()].filter((answer) => this.tree.isOrphan(answer));
    try {
      await this.#history.loadNew(INITIAL_PAGES);
      this.info = { ...this.info, ...(await this.#request("conversation.get")) };
      for (const answer of orphans) this.tree.reveal(answer);
      this.#emit("messages");
    } catch {
      this.#isStale = true; // the next socket tries again
    }
  }

  /** Stops following the conversation. */
  close() {
    this.#closed.abort();
    if (this.#attached?.attached) void this.#attached.detach().catch(() => {});
  }

  async loadEarlier() {
    await this.#history.load(this.id, 1);
    this.#emit("messages");
  }

  /**
   * Sends a prompt to one or several models. The answers of several are shown side by side.
   * @param {object[]} parts text and images
   * @param {object[]} requests the fields of `turn.start` for each answer: `model`, `params`, `tools`, and `toolFollowUp`, which returns the fields for the turn after a tool result
   * @param {MessageNode} [parent] default: see `anchor`
   * @param {"queue" | "interrupt"} [onBusy] the prompt follows the answers that stream: after their ending, or by stopping
   *   them. It is shown below the last message of the path until `turn.started` names its parent.
   */
  send(parts, requests, parent = this.anchor(), onBusy = undefined) {
    const place = this.#place(parts, requests, onBusy ? this.tree.leaf() : parent, onBusy);
    const { turn, prompt } = place;
    const sent = requests.map((request) => ({ ...request, toolFollowUp: undefined }));
    const isKept = keepPrompt({ turn, group: this.key, conversation: this.id, parent: prompt.parent.id, system: this.newSystem ?? undefined, onBusy, parts, requests: sent });
    if (!isKept) this.#emit("not-kept");
    this.startPlaced(place);
  }

  /** Shows a prompt that an earlier page kept. `startPlaced` sends it. @param {import("./outbox.js").KeptPrompt} kept */
  placeKept({ turn, parts, requests, parent, onBusy, system }) {
    if (!this.id && system !== undefined) this.newSystem = system;
    const place = this.#place(parts, requests, this.tree.get(parent) ?? this.tree.leaf(), onBusy, turn);
    if (parent && !this.tree.get(parent)) this.tree.attach(place.prompt, parent);
    this.#emit("messages");
    return { ...place, parentId: parent };
  }

  /** Removes a prompt that was shown and not sent. */
  removePlaced({ prompt }) {
    this.tree.remove(prompt);
    this.#emit("messages");
  }

  #place(parts, requests, parent, onBusy, turn = newTurnId()) {
    const hasUnansweredSibling = parent.children.some((child) => child.role === "user" && isUnanswered(child));
    if (hasUnansweredSibling) parent.sideBySide = true;
    const prompt = new MessageNode("user", { parts });
    this.tree.move(prompt, parent);
    this.tree.select(prompt);
    prompt.sideBySide = requests.length > 1;
    return { turn, prompt, answer: this.#addAnswer(prompt), parts, requests, onBusy };
  }

  /** Sends a prompt that is shown. */
  startPlaced({ turn, prompt, answer, parts, requests, onBusy, parentId }) {
    const [first, ...others] = requests;
    // The parent of a kept prompt may not be loaded.
    const parent = parentId && prompt.parent.id !== parentId ? { id: parentId } : prompt.parent;
    prompt.accepted = Promise.withResolvers();
    void this.#start(answer, { turn, ...first, input: toInput(parts), ...(onBusy && { on_busy: onBusy }) }, parent).then(prompt.accepted.resolve);
    for (const fields of others) void this.#startAfter(prompt.accepted.promise, prompt, fields);
  }

  /** Requests another answer to the same prompt. */
  regenerate(answer, fields) {
    const prompt = answer.parent;
    if (!prompt.id) {
      // The prompt was refused, so the gateway doesn't have it: it must be sent again.
      const { parent } = prompt;
      forgetKept(prompt);
      this.tree.remove(prompt);
      this.send(prompt.parts, [fields], parent);
      return;
    }
    this.tree.select(prompt);
    void this.#start(this.#addAnswer(prompt), fields, prompt);
  }

  /** Lets the model go on from an answer that is not whole, in a new answer beside it. */
  continueAnswer(answer, fields) {
    void this.#start(this.#addAnswer(answer.parent), { ...fields, continue: true }, answer);
  }

  /** Sends an edited prompt as a new branch next to the original. */
  edit(prompt, parts, fields) {
    const { parent } = prompt;
    const { sideBySide } = parent;
    forgetKept(prompt);
    this.send(parts, [fields], parent);
    parent.sideBySide = sideBySide;
    this.#emit("messages");
  }

  /**
   * Runs the tool calls of an answer and starts the next turn.
   * @param {MessageNode} answer
   * @param {(results: object[]) => object} toolFollowUp
   * @param {Set<number>} [refused] the indexes of the calls that the user refused
   */
  runToolCalls(answer, toolFollowUp, refused) {
    const results = runTools(answer.toolCalls, refused);
    const message = new MessageNode("tool", { parts: results });
    this.tree.move(message, answer);
    this.tree.select(message);
    void this.#start(this.#addAnswer(message), { ...toolFollowUp(results), input: results }, answer);
  }

  /** Shows the versions below a message side by side, or one at a time. */
  setSideBySide(node, sideBySide) {
    node.sideBySide = sideBySide;
    storeSideBySide(node, this.id);
    this.#emit("messages");
  }

  /** Shows a branch, and stores it as the head for other devices and a reload. */
  select(node) {
    this.tree.select(node);
    this.#emit("messages");
    const leaf = this.tree.leaf(node);
    const head = leaf.id && !leaf.isStreaming ? leaf : leaf.parent;
    if (this.id && head?.id) this.#request("conversation.update", { head: head.id }).catch(() => {});
  }

  /** Shows the branch of a message, and stores nothing: that would move the conversation to the top of the list. */
  reveal(node) {
    this.tree.select(node);
    this.#emit("messages");
  }

  stop(nodes = [...this.running.values()]) {
    return this.#connection.cancel(nodes.map((node) => node.turn), "stopped on the page");
  }

  /** Returns the parent of the next message. */
  anchor() {
    return this.tree.anchor;
  }

  /** Follows a turn that another page started, or this one before a reload. */
  follow(turn) {
    if (!this.running.has(turn.id) && !this.#startingOverHttp.has(turn.id)) void this.#run(turn, new MessageNode("assistant"), true);
  }

  #addAnswer(prompt) {
    const answer = new MessageNode("assistant");
    this.tree.move(answer, prompt);
    this.tree.select(answer);
    return answer;
  }

  /** Starts the turn that writes `answer` and continues from `parent`. Resolves when the turn has ended. */
  async #start(answer, { toolFollowUp, ...fields }, parent) {
    answer.toolFollowUp = toolFollowUp;
    this.#emit("messages");
    let id = null;
    while (this.#idPromise && !id) id = await this.#idPromise.catch(() => null);
    // A message at the root needs a conversation without a head, or it would continue from the head.
    if (id && !fields.on_busy && !parent.id && parent.children.some((child) => child.children.some((sibling) => sibling.ended))) {
      await this.#request("conversation.clear").catch(() => {});
    }
    const place = id ? { conversation: id, ...(parent.id && !fields.on_busy && { parent: parent.id }) } : {};
    const { turn } = await this.#startTurn({ ...fields, ...place, ...this.#systemFor(id) }, id);
    // A prompt is kept if the connection was closed for good: the page has to be reloaded.
    turn.accepted.then(() => dropPrompt(turn.id), ({ code }) => code !== "connection_closed" && dropPrompt(turn.id));
    return this.#run(turn, answer);
  }

  /** Starts a turn: over HTTP if it doesn't fit into a frame. Returns `{turn}`, because a turn is also a promise. */
  async #startTurn(fields, id) {
    if (!isLarge(fields)) {
      const turn = this.#connection.start(fields);
      if (!id) this.#waitForId(turn.accepted);
      return { turn };
    }
    const started = { turn: newTurnId(), ...fields };
    this.#startingOverHttp.add(started.turn);
    const starting = import("./http_start.js").then(({ startOverHttp }) => startOverHttp(this.#connection, started));
    if (!id) this.#waitForId(starting.then(({ turn }) => turn.accepted));
    return starting.finally(() => this.#startingOverHttp.delete(started.turn));
  }

  /** Returns the `system` of a start: the first one creates the conversation with it; later, a change that isn't saved. */
  #systemFor(id) {
    if (id) return this.unsavedSystem === null ? {} : { system: this.unsavedSystem.trim() };
    this.sentSystem = this.newSystem?.trim() ?? "";
    this.#emit("first-start");
    return this.sentSystem ? { system: this.sentSystem } : {};
  }

  /** Starts another answer to a prompt once the prompt is accepted. */
  async #startAfter(accepted, prompt, fields) {
    const answer = this.#addAnswer(prompt);
    await accepted;
    if (prompt.id) await this.#start(answer, fields, prompt);
    else this.tree.remove(answer);
    this.#emit("messages");
  }

  #waitForId(accepted) {
    const idPromise = accepted.then(({ conversation }) => {
      this.id = conversation;
      setConversationOf(this.key, conversation);
      this.#emit("created");
      this.#attach().catch(() => {});
      return conversation;
    });
    this.#idPromise = idPromise;
    idPromise.catch(() => {
      if (this.#idPromise === idPromise) this.#idPromise = null;
    });
  }

  async #run(turn, answer, isReplay = false) {
    answer.turn = turn;
    answer.timer = new TurnTimer(isReplay);
    this.running.set(turn.id, answer);
    this.#emit("turns");
    for await (const event of turn) {
      if (event.type === "turn.started") this.#onStarted(answer, event);
      else if (event.type === "turn.delta" && event.text) answer.timer.addDelta(event);
      else if (event.type === "turn.status") answer.applyStatus(event);
      answer.onChange(event);
    }
    this.running.delete(turn.id);
    this.#onEnded(answer, turn.ending);
  }

  /** Applies `turn.started`: the ids of the messages, and their place in the tree. */
  #onStarted(answer, { input, message, parent, model }) {
    answer.model = model;
    const prompt = answer.parent;
    if (input && prompt && !prompt.id) {
      this.tree.setId(prompt, input.id);
      prompt.created_at = input.created_at;
      if (input.parent !== (prompt.parent.id ?? null)) {
        const isShown = this.tree.leaf() === answer;
        this.tree.attach(prompt, input.parent);
        if (isShown) this.tree.select(answer);
      }
    } else if (input) {
      this.tree.add(input);
    }
    this.tree.setId(answer, message);
    if (answer.parent?.id !== parent) {
      this.tree.attach(answer, parent);
      this.tree.reveal(answer);
    }
    answer.parent.accepted?.resolve();
    for (const node of [answer.parent, answer.parent.parent]) if (node?.sideBySide) this.setSideBySide(node, true);
    this.#emit("messages");
    void this.catchUp();
  }

  #onEnded(answer, ending) {
    if (EXPIRED.has(ending.error?.code) && !answer.id && !answer.parent) return;
    Object.assign(answer, { ending, ended: ending.type.slice("turn.".length), usage: ending.usage, cost: ending.cost, timing: ending.timing });
    if (answer.toolRounds >= TOOL_ROUNDS_MAX) answer.toolFollowUp = null;
    answer.timer.stop(ending.timing);
    answer.onChange(ending);
    this.#emit("messages");
    this.#emit("turns", { ended: answer });
    if (ending.finish_reason === "tool_calls" && answer.toolFollowUp && this.mayRunTools(answer.toolCalls)) this.runToolCalls(answer, answer.toolFollowUp);
  }

  /** Attaches to the conversation: every turn in it arrives here, whoever starts it. */
  async #attach() {
    if (this.#attached) return;
    const conversation = this.#connection.conversation(this.id);
    this.#attached = conversation;
    const { signal } = this.#closed;
    conversation.addEventListener("turn", ({ detail }) => this.follow(detail), { signal });
    conversation.addEventListener("updated", ({ detail }) => {
      this.info = { ...this.info, ...Object.fromEntries(Object.entries(detail).filter(([, value]) => value !== undefined)) };
      this.#emit("info");
    }, { signal });
    conversation.addEventListener("reattached", () => {
      this.#isStale = true;
      this.#emit("stale");
    }, { signal });
    conversation.addEventListener("deleted", () => {
      this.notFound = true;
      this.#emit("info");
    }, { signal });
    for (const turn of conversation.turns) this.follow(turn);
    await conversation.attach();
  }

  #request(type, fields = {}) {
    return this.#connection.request(type, { conversation: this.id, ...fields });
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** Forgets a prompt that the user replaces. If it was refused, it must not be sent after a reload. */
function forgetKept(prompt) {
  if (!prompt.id) for (const { turn } of prompt.children) if (turn?.ended) dropPrompt(turn.id);
}

/** Converts parts to the `input` of a start: a single text becomes a string. */
function toInput(parts) {
  return parts.length === 1 && parts[0].kind === "text" ? parts[0].text : parts;
}

/** Returns whether a start doesn't fit into a frame. */
function isLarge(fields) {
  const { input = "" } = fields;
  const chars = typeof input === "string" ? input.length : input.reduce((sum, { data, text }) => sum + (data?.length ?? 0) + (text?.length ?? 0), 0);
  return chars > START_BYTES || new TextEncoder().encode(JSON.stringify(fields)).length > START_BYTES;
}
