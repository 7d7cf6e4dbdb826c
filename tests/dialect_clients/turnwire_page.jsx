/**
 * A page with the package `turnwire` in React's `StrictMode`: `useChat` with its transport, or its hooks. Its address says which:
 * `?gateway=URL&chat=ID&transport=http#hooks`. `window.counted` counts the sockets, and `window.faults` has what must not happen.
 */

import { useChat } from "@ai-sdk/react";
import { lastAssistantMessageIsCompleteWithToolCalls, safeValidateUIMessages, uiMessageChunkSchema } from "ai";
import { StrictMode, memo, useEffect, useRef, useState } from "react";
import { createRoot } from "react-dom/client";
import { TurnwireChatTransport } from "turnwire/ai-sdk";
import { TurnwireProvider, useConnection, useConversation, useTurn } from "turnwire/react";

const query = new URLSearchParams(location.search);
const id = query.get("chat");
const url = `${query.get("gateway").replace("http", "ws")}/ws`;
const over = query.get("transport") ?? "auto";
const tools = [{ name: "add", description: "Add two numbers", parameters: { type: "object", properties: {} } }];
/** An image that doesn't fit in a frame. */
const IMAGE = `data:image/png;base64,${btoa("\x89PNG\r\n\x1a\n".padEnd(100_000, "."))}`;

window.faults = [];
window.counted = { made: 0, open: 0 };
window.model = "openai/m";
window.params = undefined;
addEventListener("unhandledrejection", ({ reason }) => window.faults.push(`unhandled: ${reason?.stack ?? reason}`));
window.WebSocket = class extends WebSocket {
    constructor(...args) {
        super(...args);
        window.counted.made++;
        window.counted.open++;
        this.addEventListener("close", () => window.counted.open--);
    }
};

/** The transport, whose chunks are checked with the schema of the AI SDK. */
class CheckedTransport extends TurnwireChatTransport {
    async sendMessages(options) {
        return checked(await super.sendMessages(options));
    }

    async reconnectToStream(options) {
        const stream = await super.reconnectToStream(options);
        return stream && checked(stream);
    }
}

function checked(stream) {
    const schema = uiMessageChunkSchema();
    return stream.pipeThrough(
        new TransformStream({
            async transform(chunk, controller) {
                const { success, error } = await schema.validate(chunk);
                if (!success) window.faults.push(`${JSON.stringify(chunk)}: ${error}`);
                controller.enqueue(chunk);
            },
        }),
    );
}

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

function Chat({ transport, messages }) {
    const [draft, setDraft] = useState("");
    const chat = useChat({ id, messages, transport, resume: true, sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls });
    const { setMessages, resumeStream } = chat;
    useEffect(
        () =>
            transport.watch(id, async () => {
                setMessages(await transport.messages(id));
                await resumeStream();
            }),
        [transport, setMessages, resumeStream],
    );
    useEffect(() => {
        if (chat.status !== "ready" || chat.messages.length === 0) return;
        void safeValidateUIMessages({ messages: chat.messages }).then(({ success, error }) => success || window.faults.push(String(error)));
    }, [chat.status, chat.messages]);
    const first = chat.messages.find(({ role }) => role === "user");
    const send = (options) => {
        setDraft("");
        chat.sendMessage({ text: draft, ...options });
    };
    const files = [{ type: "file", mediaType: "image/png", filename: "a.png", url: IMAGE }];
    return (
        <main>
            <output>{chat.status}</output>
            <p role="alert">{chat.error && `${chat.error.code}: ${chat.error.message}`}</p>
            {chat.messages.map((message) => (
                <article key={message.id} id={message.id} data-role={message.role} data-metadata={JSON.stringify(message.metadata)}>
                    {message.parts.map((part, n) => (
                        <Part key={n} part={part} onOutput={({ toolCallId }) => chat.addToolOutput({ tool: "add", toolCallId, output: { sum: 3 } })} />
                    ))}
                </article>
            ))}
            <input value={draft} onChange={(event) => setDraft(event.target.value)} />
            <button onClick={() => send()}>Send</button>
            <button onClick={() => send({ files })}>Send a file</button>
            <button onClick={() => send({ messageId: first.id })}>Edit</button>
            <button onClick={() => chat.regenerate()}>Regenerate</button>
            <button onClick={() => chat.stop()}>Stop</button>
        </main>
    );
}

const Message = memo(function Message({ message }) {
    window.renders[message.role] = (window.renders[message.role] ?? 0) + 1;
    return (
        <article id={message.id} data-role={message.role} data-status={message.status}>
            {message.text}
        </article>
    );
});

/** A conversation, which two components show. */
function Conversation({ name }) {
    const { messages, status, error, send, stop, regenerate } = useConversation(id, { model: "openai/m" });
    const [draft, setDraft] = useState("");
    window.renders[name] = (window.renders[name] ?? 0) + 1;
    return (
        <section aria-label={name}>
            <output>{status}</output>
            <p role="alert">{error?.code}</p>
            {messages.map((message) => (
                <Message key={message.key} message={message} />
            ))}
            <input value={draft} onChange={(event) => setDraft(event.target.value)} />
            <button onClick={() => send(draft)}>Send</button>
            <button onClick={() => regenerate()}>Regenerate</button>
            <button onClick={() => stop("enough")}>Stop</button>
        </section>
    );
}

/** A completion that an effect starts. */
function Completion() {
    const { text, status, start, message } = useTurn({ model: "openai/m" });
    useEffect(() => void start("Complete this"), [start]);
    return <p data-completion={status}>{message?.text === text ? `done: ${text}` : text}</p>;
}

function State() {
    return <output id="state">{useConnection().state.state}</output>;
}

function Hooks() {
    const [shown, setShown] = useState("none");
    const frames = useRef(null);
    useEffect(() => {
        // Counts the frames while the page is shown, with which the renders are compared.
        const count = () => {
            window.frames_++;
            frames.current = requestAnimationFrame(count);
        };
        count();
        return () => cancelAnimationFrame(frames.current);
    }, []);
    return (
        <main>
            {["none", "conversation", "completion"].map((name) => (
                <button key={name} onClick={() => setShown(name)}>
                    Show {name}
                </button>
            ))}
            {shown === "none" ? null : (
                <TurnwireProvider url={url} transport={over} token={() => ""}>
                    <State />
                    {shown === "conversation" ? ["first", "second"].map((name) => <Conversation key={name} name={name} />) : <Completion />}
                </TurnwireProvider>
            )}
        </main>
    );
}

window.renders = {};
window.frames_ = 0;
const root = createRoot(document.getElementById("app"));
if (location.hash === "#hooks") {
    root.render(<StrictMode><Hooks /></StrictMode>);
} else {
    const transport = new CheckedTransport({ url, transport: over, start: () => ({ model: window.model, tools, params: window.params }) });
    window.transport = transport;
    root.render(<StrictMode><Chat transport={transport} messages={await transport.messages(id)} /></StrictMode>);
}
