/** A React program of a user with strict types. It is never run; TypeScript checks it against the package's types. */

import { Chat, useChat } from "@ai-sdk/react";
import type { ChatTransport, UIMessage } from "ai";
import { useEffect, type ReactElement } from "react";
import { connect, type Turn } from "turnwire";
import { TurnwireChatTransport, type TurnwireUIMessage } from "turnwire/ai-sdk";
import { TurnwireProvider, useConnection, useConversation, useTurn, type ChatMessage } from "turnwire/react";

const transport = new TurnwireChatTransport({
  url: "wss://gateway.example/ws",
  token: async () => "token",
  start: () => ({ model: "demo", tools: [{ name: "add" }], params: { reasoning: "low" } }),
});
const shared: ChatTransport<UIMessage> = new TurnwireChatTransport<UIMessage>({ connection: connect(), cancelOnAbort: false });
export const chat = new Chat<UIMessage>({ transport: shared });

export function Talk({ id, messages }: { id: string; messages: TurnwireUIMessage[] }): ReactElement {
  const talk = useChat<TurnwireUIMessage>({ id, messages, transport, resume: true });
  useEffect(() => transport.watch(id, (turn: Turn) => console.log(turn.id)), [id]);
  useEffect(() => void transport.messages(id).then(talk.setMessages), [id, talk.setMessages]);
  return (
    <button onClick={() => void talk.sendMessage({ text: "Hi" }, { body: { model: "demo" } })}>
      {talk.messages.map(({ metadata }) => metadata?.usage?.totalTokens ?? metadata?.error?.code).join()}
    </button>
  );
}

function Line({ message }: { message: ChatMessage }): ReactElement {
  return <p data-status={message.status}>{message.error?.code ?? message.text + (message.usage?.output_tokens ?? "")}</p>;
}

function Conversation({ id }: { id: string }): ReactElement {
  const { messages, send, stop, regenerate, status, error, hasMore, loadMore } = useConversation(id, { model: "demo", limit: 20 });
  const completion = useTurn({ params: { max_tokens: 20 } });
  const { connection, state } = useConnection();
  const ask = async (): Promise<string> => (await completion.start("Hi", { signal: AbortSignal.timeout(1000) })).text;
  return (
    <section aria-busy={status === "streaming" || completion.status === "queued"} title={error?.message ?? completion.error?.code ?? ""}>
      {messages.map((message) => <Line key={message.key} message={message} />)}
      {hasMore && <button onClick={() => void loadMore()}>{state.state === "live" ? state.ready.instance : state.state}</button>}
      <button onClick={() => void send([{ kind: "text", text: "Hi" }], { on_busy: "queue" }).cancel()}>{connection?.codec}</button>
      <button onClick={() => void stop("enough").then(() => regenerate({ model: "demo" }))}>{completion.message?.finish_reason}</button>
      <button onClick={() => void ask()}>{completion.text}</button>
    </section>
  );
}

export function App(): ReactElement {
  return (
    <TurnwireProvider url="wss://gateway.example/ws" token={() => "token"} codec="msgpack">
      <Conversation id="c" />
      <TurnwireProvider connection={transport.connection} />
      {/* @ts-expect-error there is no such codec */}
      <TurnwireProvider codec="xml" />
    </TurnwireProvider>
  );
}

// @ts-expect-error a conversation has an id
export const useNothing = () => useConversation();
// @ts-expect-error the transport itself names the conversation
new TurnwireChatTransport({ start: { conversation: "c" } });
