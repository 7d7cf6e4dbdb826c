/**
 * A page with `useChat`, as an application has it: it shows a chat, resumes it after a reload, and resumes a stream whose
 * connection has failed. Its address says which chat of which gateway: `?api=URL&chat=ID&transport=http`.
 */

import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport, WebSocketChatTransport, lastAssistantMessageIsCompleteWithToolCalls } from "ai";
import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";

const query = new URLSearchParams(location.search);
const id = query.get("chat");
const api = query.get("api");
const tools = { add: { description: "Add two numbers", inputSchema: { type: "object", properties: {} } } };
const body = () => ({ model: window.model ?? "openai/m", tools });
const transport =
    query.get("transport") === "socket"
        ? new WebSocketChatTransport({ url: `${api}/ai-sdk/ws`, body })
        : new DefaultChatTransport({ api: `${api}/api/chat`, body });

async function load() {
    const saved = await fetch(`${api}/api/chat/${id}/messages`);
    return saved.ok ? (await saved.json()).messages : [];
}

const messages = await load();

function Part({ part, onOutput }) {
    if (part.type === "text") return <span data-kind="text">{part.text}</span>;
    if (part.type === "reasoning") return <em>{part.text}</em>;
    if (part.type !== "tool-add") return null;
    return (
        <code>
            {JSON.stringify(part.input)}
            {part.state === "input-available" ? <button onClick={() => onOutput(part)}>Add</button> : JSON.stringify(part.output)}
        </code>
    );
}

function App() {
    const [draft, setDraft] = useState("");
    const chat = useChat({
        id,
        messages,
        transport,
        sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
        onFinish: ({ isDisconnect }) => {
            if (isDisconnect) setTimeout(chat.resumeStream, 100);
        },
        onError: ({ statusCode }) => {
            // The instance that was asked is being deployed.
            if (statusCode === 503) setTimeout(chat.resumeStream, 500);
        },
    });
    useEffect(() => {
        // If the answer has ended since the messages were loaded, there is nothing to resume: it is among the messages now.
        chat.resumeStream().then(async () => {
            if (messages.at(-1)?.role !== "user") return; // none was missing, and the user may have sent a message meanwhile
            const now = await load();
            chat.setMessages((shown) => (shown.at(-1)?.role === "user" ? now : shown));
        });
    }, []);
    const first = chat.messages.find(({ role }) => role === "user");
    const answer = ({ toolCallId }) => chat.addToolOutput({ tool: "add", toolCallId, output: { sum: 3 } });
    const send = (options) => {
        setDraft("");
        chat.sendMessage({ text: draft, ...options });
    };
    return (
        <main>
            <output>{chat.status}</output>
            <p role="alert">{chat.error?.message}</p>
            {chat.messages.map((message) => (
                <article key={message.id} id={message.id} data-role={message.role}>
                    {message.parts.map((part, n) => (
                        <Part key={n} part={part} onOutput={answer} />
                    ))}
                </article>
            ))}
            <input value={draft} onChange={(event) => setDraft(event.target.value)} />
            <button onClick={() => send()}>Send</button>
            <button onClick={() => send({ messageId: first.id })}>Edit</button>
            <button onClick={() => chat.regenerate()}>Regenerate</button>
            <button onClick={() => fetch(`${api}/api/chat/${id}/stop`, { method: "POST" })}>Stop</button>
        </main>
    );
}

createRoot(document.getElementById("app")).render(<App />);
