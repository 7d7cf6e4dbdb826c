/** A conversation's messages as a tree, and the shown path through it. Has no DOM and no network. */

import { TurnTimer } from "./turn_timer.js";

/** One message: stored, streaming, or not accepted yet (then it has no id). */
export class MessageNode {
  id = null;
  role;
  parts = [];
  parent = null;
  /** Oldest first. @type {MessageNode[]} */
  children = [];
  /** The child on the shown path. @type {MessageNode | null} */
  selected = null;
  /** Whether its children are shown side by side rather than one at a time. */
  sideBySide = false;
  model = null;
  usage = null;
  cost = null;
  timing = null;
  /** `completed`, `cancelled` or `failed`, as stored. */
  ended = null;
  /** The ending of its turn, as received or as stored. */
  ending = null;
  /** The turn that creates it, while this page follows one. */
  turn = null;
  /** The last `turn.status` of its turn, with its arrival `at` in ms from `performance.now()`. */
  lastStatus = null;
  /** The number of earlier messages that didn't fit into the model's context window. */
  trimmedCount = 0;
  /** @type {import("./turn_timer.js").TurnTimer | null} */
  timer = null;
  /** Settled when the gateway accepts this prompt or its turn ends. @type {PromiseWithResolvers<void> | null} */
  accepted = null;
  /** A function that returns the fields of the turn after a tool result. If it is null, the user must start that turn. */
  toolFollowUp = null;
  /** The user's rating: `up` or `down`. */
  rating = null;
  /** Called after a change to this message alone. @type {(event: object) => void} */
  onChange = () => {};

  constructor(role, fields = {}) {
    this.role = role;
    Object.assign(this, fields);
  }

  get isStreaming() {
    return this.turn !== null && !this.turn.ended;
  }

  /** Applies a `turn.status` event. */
  applyStatus(event) {
    if (event.status === "trimmed") this.trimmedCount = event.messages;
    else this.lastStatus = { ...event, at: performance.now() };
    if (event.status === "fallback" || event.status === "continued") this.model = event.model;
  }

  /** Sets the timing of a stored answer. */
  restoreTiming(timing) {
    this.timing = timing;
    this.timer = new TurnTimer(true);
    this.timer.stop(timing);
  }

  /** The number of consecutive tool results that led to it. */
  get toolRounds() {
    return this.parent?.role === "tool" ? 1 + (this.parent.parent?.toolRounds ?? 0) : 0;
  }

  /** The parts so far: those of the running turn if it has any. */
  get currentParts() {
    return this.turn?.parts.length ? this.turn.parts : this.parts;
  }

  get toolCalls() {
    return this.currentParts.filter((part) => part?.kind === "tool_call");
  }

  /** The text parts so far, joined. */
  get text() {
    return textOf(this.currentParts);
  }
}

export function textOf(parts) {
  return parts.filter((part) => part?.kind === "text").map((part) => part.text).join("");
}

export class MessageTree {
  root = new MessageNode("root");
  #byId = new Map();
  /** Messages whose parent isn't loaded, by the parent's id. They are children of the root until it is. */
  #orphans = new Map();

  get(id) {
    return this.#byId.get(id) ?? null;
  }

  get isEmpty() {
    return this.root.children.length === 0;
  }

  /** Every message, in no particular order. */
  get all() {
    const nodes = [];
    const visit = (node) => {
      for (const child of node.children) {
        nodes.push(child);
        visit(child);
      }
    };
    visit(this.root);
    return nodes;
  }

  /** Adds a stored message, or updates the node that has its id. */
  add(message) {
    const { id, role, parts, parent, model = null, usage = null, cost = null, ended = null, timing = null, rating = null, created_at } = message;
    const existing = this.get(id);
    const node = existing ?? new MessageNode(role, { id });
    Object.assign(node, { model: model ?? node.model, usage: usage ?? node.usage, cost: cost ?? node.cost, ended: ended ?? node.ended, rating: rating ?? node.rating });
    if (ended) node.ending ??= { ...message, type: `turn.${ended}` };
    if (timing && !node.timer) node.restoreTiming(timing);
    node.created_at = created_at;
    // `turn.started` may truncate its input; a stored message is complete.
    if (!message.truncated || node.parts.length === 0) node.parts = parts;
    this.setId(node, id);
    if (!existing || (node.parent === this.root && parent)) this.attach(node, parent);
    return node;
  }

  /** Sets the id of a node and moves its orphans below it. */
  setId(node, id) {
    node.id = id;
    this.#byId.set(id, node);
    for (const child of this.#orphans.get(id) ?? []) this.move(child, node);
    this.#orphans.delete(id);
  }

  /** Moves a node below the message with an id; null is the root. */
  attach(node, parentId) {
    const parent = parentId ? this.get(parentId) : this.root;
    this.move(node, parent ?? this.root);
    if (!parent) this.#orphans.set(parentId, [...(this.#orphans.get(parentId) ?? []), node]);
  }

  /** Returns whether the place of an answer's prompt is not known yet. */
  isOrphan({ parent }) {
    return [...this.#orphans.values()].some((children) => children.includes(parent));
  }

  /** Shows a streaming answer: next to others that stream, else on the path. An orphan isn't shown. */
  reveal(answer) {
    if (this.isOrphan(answer)) return;
    const prompt = answer.parent;
    const hasSeveralStreams = (node) => node.children.filter((child) => child.isStreaming || child.children.some((below) => below.isStreaming)).length > 1;
    for (const node of [prompt, prompt.parent]) if (node && hasSeveralStreams(node)) node.sideBySide = true;
    if (!prompt.parent?.sideBySide) this.select(answer);
  }

  move(node, parent) {
    if (node.parent === parent) return;
    this.remove(node);
    node.parent = parent;
    parent.children.push(node);
    // Pages arrive newest first, and the messages of a page oldest first.
    if (node.created_at) parent.children.sort((one, other) => ((one.created_at ?? "~") < (other.created_at ?? "~") ? -1 : 1));
  }

  remove(node) {
    const { parent } = node;
    if (!parent) return;
    parent.children.splice(parent.children.indexOf(node), 1);
    if (parent.selected === node) parent.selected = null;
    node.parent = null;
  }

  /** Makes the shown path run through a message. */
  select(node) {
    for (let at = node; at?.parent; at = at.parent) at.parent.selected = at;
  }

  /** The parent of the next message: the last complete answer on the path. A prompt whose answer still streams gets a sibling. */
  get anchor() {
    let node = this.leaf();
    for (let at = node; at; at = at.parent) {
      if (at.role === "user" && isUnanswered(at)) node = at.parent;
    }
    return node;
  }

  /** Whether an answer on the path streams, or isn't accepted yet. */
  get isBusy() {
    for (let at = this.leaf(); at; at = at.parent) {
      if (at.role === "assistant" && (at.isStreaming || !(at.id || at.turn || at.ended))) return true;
    }
    return false;
  }

  /** Returns the last message of the path below `from`. */
  leaf(from = this.root) {
    let node = from;
    while (nextOnPath(node)) node = nextOnPath(node);
    return node;
  }
}

/** Returns whether a prompt isn't accepted yet, or has an answer on the path that streams or isn't accepted yet. */
export function isUnanswered(prompt) {
  for (let at = nextOnPath(prompt); at && at.role !== "user"; at = nextOnPath(at)) {
    if (at.role === "assistant" && (at.isStreaming || !at.id)) return true;
  }
  return !prompt.id;
}

/** Returns the next message on the path: the selected child, else the newest. */
export function nextOnPath(node) {
  return node.selected ?? node.children.at(-1) ?? null;
}
