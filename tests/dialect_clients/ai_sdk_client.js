/**
 * npm's `ai` and the chat of `@ai-sdk/react` against the gateway. `node ai_sdk_client.js URL KIND` writes what each
 * scenario has received as JSON. KIND: `http` or `socket`, the transport.
 */

import { Chat } from "@ai-sdk/react";
import { DefaultChatTransport, WebSocketChatTransport, lastAssistantMessageIsCompleteWithToolCalls, validateUIMessages } from "ai";

const [url, kind] = process.argv.slice(2);
const found = {};
const demo = (options) => ({ body: { model: "demo", demo: { rate: 0, ...options } } });
const transports = [];

function makeTransport(options = {}) {
    const transport =
        kind === "socket"
            ? new WebSocketChatTransport({ url: `${url}/ai-sdk/ws`, ...options })
            : new DefaultChatTransport({ api: `${url}/api/chat`, ...options });
    transports.push(transport);
    return transport;
}

const named = (id) => `${kind}-${id}`;

/** A chat, with what its callbacks have seen in `seen`. */
function open(name, options = {}) {
    const id = named(name);
    const seen = { errors: [], data: [], finishes: [] };
    const chat = new Chat({
        id,
        transport: makeTransport(options.transport),
        onError: (error) => seen.errors.push(error.message),
        onData: (part) => seen.data.push(part),
        onFinish: ({ finishReason, isAbort, isError }) => seen.finishes.push({ finishReason, isAbort, isError }),
        ...options.chat,
    });
    return { chat, seen };
}

const text = (message) => message.parts.filter((part) => part.type === "text").map((part) => part.text).join("|");
const shown = (chat) => chat.messages.map((message) => `${message.role}: ${text(message)}`);
const turn = async (id) => (await fetch(`${url}/v1/turns/${id}`)).json();
const stored = async (id) => (await (await fetch(`${url}/api/chat/${named(id)}/messages`)).json()).messages;
async function until(condition) {
    while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 10));
}

// A conversation: reasoning, text, usage; the second question is answered with the first one as its context.
{
    const { chat, seen } = open("talk");
    await chat.sendMessage({ text: "Hello" }, demo({ thinking: 3, text: "Hi you." }));
    await chat.sendMessage({ text: "And?" }, demo({ text: "That is all." }));
    await validateUIMessages({ messages: chat.messages });
    const answer = await turn(chat.messages[1].id);
    found.talk = {
        shown: shown(chat),
        parts: chat.messages[1].parts.map((part) => [part.type, part.state]),
        finishes: seen.finishes,
        usage: seen.data[0],
        turn: [answer.status, answer.conversation, answer.usage.output_tokens],
        stored: await stored("talk"),
        messages: JSON.parse(JSON.stringify(chat.messages)),
        ids: chat.messages.map((message) => message.id),
    };
}

// An edit and a regeneration make branches, each with the context that the client shows.
{
    const { chat } = open("branches");
    await chat.sendMessage({ text: "One" }, demo({ text: "First." }));
    await chat.sendMessage({ text: "Two" }, demo({ text: "Second." }));
    const two = chat.messages[2].id;
    await chat.sendMessage({ text: "Two, edited", messageId: two }, demo({ text: "Second, edited." }));
    const edited = shown(chat);
    await chat.regenerate(demo({ text: "Second, again." }));
    const again = shown(chat);
    await chat.regenerate({ messageId: chat.messages[1].id, ...demo({ text: "First, again." }) });
    const first = shown(chat);
    await chat.sendMessage({ text: "One, edited", messageId: chat.messages[0].id }, demo({ text: "Edited first." }));
    found.branches = { edited, again, first, last: shown(chat), stored: (await stored("branches")).map(text) };
}

// A tool of the client is called; its result is sent by itself, and the answer continues the same message.
{
    const tools = { add: { description: "Add", inputSchema: { type: "object", properties: {} } } };
    const bodies = [demo({ text: "Let me see.", tool: { name: "add", arguments: '{"a": 1,\n "b": 2}' } }), demo({ text: "It is 3." })];
    const calls = [];
    const { chat, seen } = open("tools", {
        transport: { body: () => ({ tools, ...bodies.shift().body }) },
        chat: {
            sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
            onToolCall: ({ toolCall }) => {
                calls.push([toolCall.toolName, toolCall.input]);
                chat.addToolOutput({ tool: "add", toolCallId: toolCall.toolCallId, output: { sum: 3 } });
            },
        },
    });
    await chat.sendMessage({ text: "Add 1 and 2" });
    await until(() => seen.finishes.length === 2);
    await validateUIMessages({ messages: chat.messages });
    found.tools = {
        calls,
        shown: shown(chat),
        types: chat.messages[1].parts.map((part) => part.type),
        finishes: seen.finishes.map(({ finishReason }) => finishReason),
        errors: seen.errors,
        stored: await stored("tools"),
        messages: JSON.parse(JSON.stringify(chat.messages)),
    };
}

// A failure before the first token, and one in the middle: the text of the error; then a new attempt succeeds.
{
    const { chat, seen } = open("fails");
    await chat.sendMessage({ text: "Fail" }, demo({ fail: "before" }));
    await chat.regenerate(demo({ text: "One two three four.", fail: "mid" }));
    const partial = shown(chat);
    await chat.regenerate(demo({ text: "Fine now." }));
    found.fails = { errors: seen.errors, partial, status: chat.status, shown: shown(chat) };
}

// Two clients: the second resumes what the first one has started. A stop ends it for both.
{
    const { chat } = open("shared");
    const sent = chat.sendMessage({ text: "Count" }, demo({ rate: 50, tokens: 100000 }));
    await until(() => chat.messages.length === 2 && text(chat.messages[1]).length > 20);
    const other = open("shared");
    other.chat.messages = [chat.messages[0]];
    const resumed = other.chat.resumeStream();
    await until(() => other.chat.messages.length === 2 && text(other.chat.messages[1]).length > 20);
    const stopped = await fetch(`${url}/api/chat/${named("shared")}/stop`, { method: "POST" });
    await Promise.all([sent, resumed]);
    const [first, second] = [chat, other.chat].map(({ messages }) => messages[1]);
    const ended = await turn(first.id);
    const nothing = open("shared");
    await nothing.chat.resumeStream();
    found.shared = {
        same: text(first) === text(second) && text(first).length > 20,
        ids: [first.id, second.id].map((id) => id === first.id),
        ended: [ended.status, ended.message.parts[0].text === text(first)],
        stopped: [stopped.status, Object.values((await stopped.json()).turns)],
        nothing: [nothing.chat.messages.length, nothing.chat.status],
    };
}

// A client that stops only its own stream doesn't stop the turn over HTTP; on a socket it does. The next message ends it.
{
    const { chat } = open("left");
    const sent = chat.sendMessage({ text: "Count" }, demo({ rate: 50, tokens: 100000 }));
    await until(() => chat.messages.length === 2 && text(chat.messages[1]).length > 20);
    const { id } = chat.messages[1];
    await chat.stop();
    await sent;
    if (kind === "socket") await until(async () => (await turn(id)).status !== "running");
    const after = (await turn(id)).status;
    await chat.sendMessage({ text: "Next" }, demo({ text: "Done." }));
    await until(async () => (await turn(id)).status === "cancelled");
    found.left = { after, shown: shown(chat).slice(2), stored: (await stored("left")).length };
}

// Requests that are refused.
{
    const { chat, seen } = open("refused");
    await chat.sendMessage({ text: "Hi" }, { body: { model: "nobody" } });
    await chat.sendMessage({ text: "" });
    chat.messages = [
        { id: "u1", role: "user", parts: [{ type: "text", text: "Add" }] },
        { id: "a1", role: "assistant", parts: [{ type: "tool-add", toolCallId: "c1", state: "output-available", input: {}, output: 1 }] },
    ];
    await chat.sendMessage();
    found.refused = { errors: seen.errors, status: chat.status };
}

for (const transport of transports) transport.close?.();
console.log(JSON.stringify(found));
