/**
 * One conversation as the page holds it: its tree, its turns, and what can be done with them. Knows no DOM.
 * Events: `structure` (messages came, went or moved), `live` (turns began or ended), `named` (it got its id), `info`,
 * `missed` (what others said while the socket was away isn't here; see `catchUp`).
 */

import { resultsOf } from "./demo_tools.js";
import { History, rememberSpread, rememberTiming } from "./message_history.js";
import { Stopwatch } from "./turn_timer.js";
import { isUnsettled, MessageNode, MessageTree, textOf } from "./message_tree.js";

/** The newest messages are read at once; older ones when they are asked for. */
const FIRST_PAGES = 5;
/** A model may ask for tools without end: after so many answers in a row, a person is asked. */
const TOOL_ROUNDS_MAX = 10;
const FORGOTTEN = new Set(["not_found", "gone"]);

export class Chat extends EventTarget {
  id = null;
  info = null;
  tree = new MessageTree();
  /** @type {Map<string, MessageNode>} the answers that stream now, by turn */
  live = new Map();
  missing = false;
  #history = new History(this.tree, (type, fields) => this.#ask(type, fields));
  #connection;
  #named = null;
  #attached = null;
  #left = new AbortController();
  /** The socket was away: others may have said something that isn't here. */
  #missed = false;

  /**
   * @param {import("../turnwire.js").Connection} connection
   * @param {string | null} id null: a new one, made by its first turn
   */
  constructor(connection, id = null) {
    super();
    this.#connection = connection;
    this.id = id;
    if (id) this.#named = Promise.resolve(id);
  }

  /** Whether there are messages in front of those that are here. */
  get earlier() {
    return Boolean(this.#history.earlier);
  }

  /** Reads what is stored and follows what runs. */
  async load() {
    await this.#attach();
    this.info = await this.#ask("conversation.get");
    await this.#history.read(this.id, FIRST_PAGES);
    const head = this.tree.get(this.info.head);
    if (head) this.tree.choose(head);
    this.#say("info");
    this.#say("structure");
  }

  /** Reads what was missed, if anything was. */
  async catchUp() {
    // What is on its way to the gateway would be read as somebody else's: it gets its id first.
    if (!this.#missed || [...this.live.values()].some(({ id }) => !id)) return;
    this.#missed = false;
    const astray = [...this.live.values()].filter((answer) => this.tree.isAstray(answer));
    try {
      await this.#history.readNew(FIRST_PAGES);
      this.info = { ...this.info, ...(await this.#ask("conversation.get")) };
      for (const answer of astray) this.tree.show(answer);
      this.#say("structure");
    } catch {
      this.#missed = true; // lost again: the next socket tells
    }
  }

  /** The page holds it no longer: what happens in it doesn't arrive here any more. */
  leave() {
    this.#left.abort();
    if (this.#attached?.attached) void this.#attached.detach().catch(() => {});
  }

  async readEarlier() {
    await this.#history.read(this.id, 1);
    this.#say("structure");
  }

  /**
   * Asks, once for each model, all of them side by side where there are several.
   * @param {object[]} parts what is said: text and images
   * @param {object[]} asked fields of the start for each answer: `model`, `params`, `system`, `tools`
   * @param {MessageNode} [below] where it goes on from; default: behind the path's last whole answer
   */
  send(parts, asked, below = this.anchor()) {
    const beside = below.kids.some((kid) => kid.role === "user" && isUnsettled(kid));
    if (beside) below.spread = true;
    const question = new MessageNode("user", { parts });
    this.tree.move(question, below);
    this.tree.choose(question);
    question.spread = asked.length > 1;
    const [first, ...others] = asked;
    question.begun = Promise.withResolvers();
    void this.#start(this.#answer(question), { ...first, input: input(parts) }, below).then(question.begun.resolve);
    for (const fields of others) void this.#startBelow(question.begun.promise, question, fields);
  }

  /** Asks the same once more: another answer to the same message. */
  regenerate(node, fields) {
    const question = node.parent;
    if (!question.id) {
      // It was refused, so there is nothing on the gateway to go on from.
      const below = question.parent;
      this.tree.remove(question);
      this.send(question.parts, [fields], below);
      return;
    }
    this.tree.choose(question);
    void this.#start(this.#answer(question), fields, question);
  }

  /** Says something else in a message's place: a branch of its own. */
  edit(node, parts, fields) {
    const below = node.parent;
    const spread = below.spread;
    this.send(parts, [fields], below);
    below.spread = spread;
    this.#say("structure");
  }

  /** Answers the tool calls of a message, and lets the model go on. */
  async answerTools(node, fields) {
    const results = await resultsOf(node.said.filter((part) => part?.kind === "tool_call"));
    const told = new MessageNode("tool", { parts: results });
    this.tree.move(told, node);
    this.tree.choose(told);
    void this.#start(this.#answer(told), { ...fields(results), input: results }, node);
  }

  /** Shows the versions below a message side by side, or behind each other. */
  spread(node, spread) {
    node.spread = spread;
    rememberSpread(node, this.id);
    this.#say("structure");
  }

  /** Shows this branch, and lets other devices and a reload find it. */
  choose(node) {
    this.tree.choose(node);
    this.#say("structure");
    const leaf = this.tree.leaf(node);
    const head = leaf.id && !leaf.live ? leaf : leaf.parent;
    if (this.id && head?.id) this.#ask("conversation.update", { head: head.id }).catch(() => {});
  }

  stop(nodes = [...this.live.values()]) {
    return this.#connection.cancel(nodes.map((node) => node.turn), "stopped on the page");
  }

  /** Where the next message goes. */
  anchor() {
    return this.tree.anchor;
  }

  #answer(question) {
    const answer = new MessageNode("assistant");
    this.tree.move(answer, question);
    this.tree.choose(answer);
    return answer;
  }

  /**
   * Starts a turn for `answer`, which goes on from `below`.
   * @returns {Promise<object>} its ending
   */
  async #start(answer, { run, ...fields }, below) {
    answer.run = run;
    this.#say("structure");
    let id = null;
    while (this.#named && !id) id = await this.#named.catch(() => null);
    // What stands at the root needs a conversation without a head, or it would go on from there.
    if (id && !below.id && below.kids.some((kid) => kid.kids.some((answered) => answered.ended))) {
      await this.#ask("conversation.clear").catch(() => {});
    }
    const place = id ? { conversation: id, ...(below.id && { parent: below.id }) } : {};
    const turn = this.#connection.start({ ...fields, ...place });
    if (!id) this.#name(turn);
    return this.#run(turn, answer);
  }

  async #startBelow(asked, question, fields) {
    const answer = this.#answer(question);
    await asked;
    if (question.id) await this.#start(answer, fields, question);
    else this.tree.remove(answer);
    this.#say("structure");
  }

  #name(turn) {
    const named = turn.accepted.then(({ conversation }) => {
      this.id = conversation;
      this.#say("named");
      this.#attach().catch(() => {});
      return conversation;
    });
    this.#named = named;
    named.catch(() => {
      if (this.#named === named) this.#named = null;
    });
  }

  /** Follows a turn that another page started, or this one before it was loaded anew. */
  follow(turn) {
    if (!this.live.has(turn.id)) void this.#run(turn, new MessageNode("assistant"), true);
  }

  async #run(turn, answer, replayed = false) {
    answer.turn = turn;
    answer.watch = new Stopwatch(replayed);
    this.live.set(turn.id, answer);
    this.#say("live");
    for await (const event of turn) {
      if (event.type === "turn.started") this.#began(answer, event);
      else if (event.type === "turn.delta" && event.text) answer.watch.heard(event);
      else if (event.type === "turn.status") answer.heard(event);
      answer.changed(event);
    }
    this.live.delete(turn.id);
    this.#ended(answer, turn.ending);
  }

  /** Now the gateway has named the messages and said where they stand. */
  #began(answer, { input: asked, message, parent, model }) {
    answer.model = model;
    const question = answer.parent;
    if (asked && question && !question.id) {
      this.tree.name(question, asked.id);
      question.created_at = asked.created_at;
      if (asked.parent !== (question.parent.id ?? null)) this.tree.attach(question, asked.parent);
    } else if (asked) {
      this.tree.add(asked);
    }
    this.tree.name(answer, message);
    if (answer.parent?.id !== parent) {
      this.tree.attach(answer, parent);
      this.tree.show(answer);
    }
    answer.parent.begun?.resolve();
    for (const node of [answer.parent, answer.parent.parent]) if (node?.spread) this.spread(node, true);
    this.#say("structure");
    void this.catchUp();
  }

  #ended(answer, ending) {
    if (FORGOTTEN.has(ending.error?.code) && !answer.id && !answer.parent) return;
    Object.assign(answer, { ending, ended: ending.type.slice("turn.".length), usage: ending.usage, cost: ending.cost, timing: ending.timing });
    if (answer.toolRounds >= TOOL_ROUNDS_MAX) answer.run = null;
    answer.watch.end(ending.timing);
    rememberTiming(answer);
    answer.changed(ending);
    this.#say("structure");
    this.#say("live", { ended: answer });
    if (ending.finish_reason === "tool_calls" && answer.run) void this.answerTools(answer, answer.run);
  }

  /** Every turn of this conversation arrives here from now on, whoever starts it. */
  async #attach() {
    if (this.#attached) return;
    const conversation = this.#connection.conversation(this.id);
    this.#attached = conversation;
    const { signal } = this.#left;
    conversation.addEventListener("turn", ({ detail }) => this.follow(detail), { signal });
    conversation.addEventListener("updated", ({ detail }) => {
      Object.assign((this.info ??= {}), detail);
      this.#say("info");
    }, { signal });
    conversation.addEventListener("reattached", () => {
      this.#missed = true;
      this.#say("missed");
    }, { signal });
    conversation.addEventListener("deleted", () => {
      this.missing = true;
      this.#say("info");
    }, { signal });
    for (const turn of conversation.turns) this.follow(turn);
    await conversation.attach();
  }

  #ask(type, fields = {}) {
    return this.#connection.request(type, { conversation: this.id, ...fields });
  }

  #say(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** Parts as a start takes them: plain words as text. */
function input(parts) {
  return parts.every((part) => part.kind === "text") ? textOf(parts) : parts;
}
