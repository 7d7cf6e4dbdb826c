/** A program that uses the client's API. It is never run; TypeScript checks its types. */

import { arrivedAt, codecs, connect, Connection, Conversation, LawViolation, socketUrl, Turn, TurnwireError } from "../../static/turnwire.js";
import type { ConnectionState, FinalMessage, Message, Part, TurnEvent, WireEntry } from "../../static/turnwire.js";

const observed: WireEntry[] = [];
const connection: Connection = connect({
  url: socketUrl("https://example.org/chat/"),
  codec: "msgpack",
  token: async () => "token",
  ticket: () => "ticket",
  wire: (entry) => observed.push(entry),
  storage: null,
});
connect();

connection.addEventListener("state", ({ detail }) => show(detail));
connection.addEventListener("violation", ({ detail }) => console.error(detail.code, detail instanceof LawViolation));
connection.addEventListener("turn", ({ detail }) => void follow(detail));
connection.addEventListener("roundtrip", ({ detail }) => console.log(detail.toFixed()));
connection.addEventListener("conversations", ({ detail }) => console.log(detail.change === "changed" ? detail.pinned : detail.conversation));
connection.addEventListener("event", ({ detail }) => console.log(detail.type));

function show(state: ConnectionState): string {
  switch (state.state) {
    case "connecting": return "…";
    case "live": return state.suspect ? "?" : state.ready.default_model;
    case "waiting": return state.network === false ? "offline" : `${state.delay_ms ?? "?"} ${state.reason}`;
    case "closed": return `${state.error?.code ?? state.code}`;
  }
}

async function follow(turn: Turn): Promise<string> {
  for await (const event of turn) take(event);
  try {
    const message: FinalMessage = await turn;
    return message.parts.map(words).join("");
  } catch (error) {
    if (error instanceof TurnwireError) return error.final?.text ?? error.stored_message ?? error.code;
    throw error;
  } finally {
    await turn.cancel("done");
  }
}

function take(event: TurnEvent): number | string | undefined {
  switch (event.type) {
    case "turn.started": return event.model;
    case "turn.status": return event.status === "queued" ? event.position : event.attempt;
    case "turn.part": return event.kind;
    case "turn.delta": return (event.text ?? "").length + arrivedAt(event);
    case "turn.reset": return event.reason;
    case "turn.completed": return event.usage?.output_tokens;
    case "turn.cancelled": return event.by;
    case "turn.failed": return event.error.code;
  }
}

function words(part: Part): string {
  return part.kind === "tool_call" ? part.arguments : part.kind === "text" ? part.text : "";
}

async function converse(chat: Conversation): Promise<Message[]> {
  const { revision, gone } = await chat.attach();
  chat.addEventListener("reattached", ({ detail }) => console.log(detail.revision + 1));
  chat.addEventListener("updated", ({ detail }) => console.log(detail.title, detail.revision - revision, gone));
  const turn = chat.start({ input: [{ kind: "text", text: "Hi" }], params: { reasoning: "low" }, signal: AbortSignal.timeout(1000) });
  void follow(turn);
  for await (const message of chat.messages({ limit: 10 })) {
    console.log(message.role, message.finish_reason, message.timing?.total_ms, message.provider);
    console.log(message.metadata?.page, message.rating, message.comment);
  }
  await chat.update({ title: "New", head: "m" });
  return chat.messages().all();
}

async function everything(): Promise<void> {
  for await (const { id } of connection.conversations({ query: "x" })) await converse(connection.conversation(id));
  for await (const page of connection.conversations().pages()) console.log(page.next);
  const chat = await connection.createConversation({ title: "T", conversation: "mine" });
  chat.start({ input: "Hi", create: true });
  await Promise.all([chat.get(), chat.clear(), chat.delete(), chat.usage(), chat.cancel(), chat.detach()]);
  const { input_tokens, cost_max } = await connection.estimate({ input: "Hi", model: "demo" });
  console.log(input_tokens, cost_max?.amount, (await chat.estimate({ input: "Hi" })).trimmed);
  const [model] = (await connection.models()).models;
  console.log(model?.features, (await connection.usage()).usage, await connection.ping(), connection.traffic.in.bytes);
  await connection.feedback("m", "up");
  const answer = await connection.request<{ t: number }>("ping", { t: 1 });
  console.log(answer.t, codecs.json.bytes(codecs.json.encode(answer)) - codecs.msgpack.encode(answer).length);
  await connection.cancel([...connection.running, ...connection.recall(), connection.follow("t")]);
  connection.switchCodec("json");
  connection.drop();
  connection.offline();
  connection.online();
  connection.retryNow();
  await connection.pauseReading(10_000);
  connection.close();
}
void everything();

// @ts-expect-error there is no such codec
connect({ codec: "xml" });
// @ts-expect-error a turn has no such field
connection.start({ prompt: "Hi" });
// @ts-expect-error a rating is a thumb or one of five
void connection.feedback("m", 6);
// @ts-expect-error there is no such event
connection.addEventListener("message", () => {});
