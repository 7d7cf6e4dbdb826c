/** A conversation's messages as the tree that they are, and the path through it that is shown. Knows no DOM and no wire. */

/** One message: stored, streaming, or not yet accepted (then without an id). */
export class MessageNode {
  id = null;
  role;
  parts = [];
  parent = null;
  /** @type {MessageNode[]} oldest first */
  kids = [];
  /** The kid on the path that is shown. @type {MessageNode | null} */
  chosen = null;
  /** Its kids stand side by side, not behind each other. */
  spread = false;
  model = null;
  usage = null;
  cost = null;
  timing = null;
  /** `completed`, `cancelled` or `failed`, as stored. */
  ended = null;
  /** How its turn ended, where this page saw it. */
  ending = null;
  /** The turn that makes it, while this page follows one. */
  turn = null;
  /** The last `turn.status` of its turn, and when it came, by `performance.now()`. */
  told = null;
  /** So many messages in front of it didn't fit into the model's window. */
  trimmed = 0;
  /** Its clock. @type {import("./turn_timer.js").Stopwatch | null} */
  watch = null;
  /** What a person here thought of it: `up` or `down`. */
  rating = null;
  /** Called after a change to this message alone. */
  changed = () => {};

  constructor(role, fields = {}) {
    this.role = role;
    Object.assign(this, fields);
  }

  get live() {
    return this.turn !== null && !this.turn.ended;
  }

  /** Takes a `turn.status`. */
  heard(event) {
    if (event.status === "trimmed") this.trimmed = event.messages;
    else this.told = { ...event, at: performance.now() };
    if (event.status === "fallback") this.model = event.model;
  }

  /** So many answers to tool calls, one after the other, led to it. */
  get toolRounds() {
    return this.parent?.role === "tool" ? 1 + (this.parent.parent?.toolRounds ?? 0) : 0;
  }

  /** The parts as they are now. */
  get said() {
    return this.turn?.parts.length ? this.turn.parts : this.parts;
  }

  /** What a person would copy: the text parts. */
  get text() {
    return textOf(this.said);
  }
}

export function textOf(parts) {
  return parts.filter((part) => part?.kind === "text").map((part) => part.text).join("");
}

export class MessageTree {
  root = new MessageNode("root");
  #byId = new Map();
  /** Messages whose parent isn't known yet, by that parent's id. They stand at the root meanwhile. */
  #waiting = new Map();

  get(id) {
    return this.#byId.get(id) ?? null;
  }

  get empty() {
    return this.root.kids.length === 0;
  }

  /** Every message, in no order. */
  get all() {
    const nodes = [];
    const visit = (node) => {
      for (const kid of node.kids) {
        nodes.push(kid);
        visit(kid);
      }
    };
    visit(this.root);
    return nodes;
  }

  /** Puts a stored message in its place; one that is known already only learns what is new. */
  add(message) {
    const { id, role, parts, parent, model = null, usage = null, cost = null, ended = null, created_at } = message;
    const known = this.get(id);
    const node = known ?? new MessageNode(role, { id });
    Object.assign(node, { model: model ?? node.model, usage: usage ?? node.usage, cost: cost ?? node.cost, ended: ended ?? node.ended });
    node.created_at = created_at;
    // What the start of a turn says of its input is cut; what is stored is whole.
    if (!message.truncated || node.parts.length === 0) node.parts = parts;
    this.name(node, id);
    if (!known || (node.parent === this.root && parent)) this.attach(node, parent);
    return node;
  }

  /** Gives a node its id, and its place as a parent. */
  name(node, id) {
    node.id = id;
    this.#byId.set(id, node);
    for (const kid of this.#waiting.get(id) ?? []) this.move(kid, node);
    this.#waiting.delete(id);
  }

  /** Puts a node below the message with that id; null is the root. */
  attach(node, parentId) {
    const parent = parentId ? this.get(parentId) : this.root;
    this.move(node, parent ?? this.root);
    if (!parent) this.#waiting.set(parentId, [...(this.#waiting.get(parentId) ?? []), node]);
  }

  /** Whether it isn't known yet where an answer's question belongs. */
  isAstray({ parent }) {
    return [...this.#waiting.values()].some((kids) => kids.includes(parent));
  }

  /** Shows an answer that streams: beside others that do, else on the path; nowhere while it is astray. */
  show(answer) {
    if (this.isAstray(answer)) return;
    const question = answer.parent;
    const beside = (node) => node.kids.filter((kid) => kid.live || kid.kids.some((below) => below.live)).length > 1;
    for (const node of [question, question.parent]) if (node && beside(node)) node.spread = true;
    if (!question.parent?.spread) this.choose(answer);
  }

  move(node, parent) {
    if (node.parent === parent) return;
    this.remove(node);
    node.parent = parent;
    parent.kids.push(node);
    // Pages come newest first, messages in a page oldest first.
    if (node.created_at) parent.kids.sort((one, other) => ((one.created_at ?? "~") < (other.created_at ?? "~") ? -1 : 1));
  }

  remove(node) {
    const { parent } = node;
    if (!parent) return;
    parent.kids.splice(parent.kids.indexOf(node), 1);
    if (parent.chosen === node) parent.chosen = null;
    node.parent = null;
  }

  /** Makes the path run through this message. */
  choose(node) {
    for (let at = node; at?.parent; at = at.parent) at.parent.chosen = at;
  }

  /** Where the next message goes: behind the path's last whole answer, beside what still streams. */
  get anchor() {
    let node = this.leaf();
    for (let at = node; at; at = at.parent) {
      if (at.role === "user" && isUnsettled(at)) node = at.parent;
    }
    return node;
  }

  /** The last message of the path below `from`. */
  leaf(from = this.root) {
    let node = from;
    while (next(node)) node = next(node);
    return node;
  }
}

/** Whether this question has no whole answer on the path. */
export function isUnsettled(question) {
  for (let at = next(question); at && at.role !== "user"; at = next(at)) {
    if (at.role === "assistant" && (at.live || !at.id)) return true;
  }
  return !question.id;
}

/** The message that follows on the path: the chosen one, else the newest. */
export function next(node) {
  return node.chosen ?? node.kids.at(-1) ?? null;
}
