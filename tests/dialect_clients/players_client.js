/**
 * Clients of npm's packages, as `tests/dialect_players/node_players.py` plays them. Each line of the input is a command
 * `{client, do, …}`; each line of the output is `{client, kind, …}`: an event of a stream, or how a command has ended.
 */

import { HttpAgent } from "@ag-ui/client";
import { createInterface } from "node:readline";
import { DefaultChatTransport, WebSocketChatTransport, readUIMessageStream } from "ai";

/** A browser's WebSocket: it sends an Origin, and so its credential may come with its first frame. */
class BrowserSocket extends WebSocket {
    constructor(address) {
        super(address, { headers: { origin: new URL(address.toString().replace(/^ws/, "http")).origin } });
    }
}

const clients = new Map();
const write = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

function streamOf(chunks) {
    return new ReadableStream({
        start(controller) {
            for (const chunk of chunks) controller.enqueue(chunk);
            controller.close();
        },
    });
}

/** A chat of the AI SDK. The SDK itself makes the message of the chunks. */
class AiSdk {
    constructor({ client, socket, url, headers, chat }) {
        this.client = client;
        this.chat = chat;
        this.transport = socket
            ? new WebSocketChatTransport({ url: `${url}/ai-sdk/ws`, headers, webSocket: BrowserSocket })
            : new DefaultChatTransport({ api: `${url}/api/chat`, headers });
        this.aborting = new AbortController();
    }

    async start({ messages, body }) {
        const { chat: chatId, aborting } = this;
        const options = { trigger: "submit-message", chatId, messages, body, abortSignal: aborting.signal };
        this.read(await this.transport.sendMessages(options));
        return "streaming";
    }

    async resume() {
        const options = { chatId: this.chat, abortSignal: this.aborting.signal };
        const stream = await this.transport.reconnectToStream(options);
        if (stream === null) return "nothing";
        this.read(stream);
        return "streaming";
    }

    async read(stream) {
        const chunks = [];
        try {
            for await (const event of stream) {
                chunks.push(event);
                write({ client: this.client, kind: "event", event });
            }
        } catch (error) {
            write({ client: this.client, kind: "lost", error: String(error) });
            return;
        }
        let message = null;
        for await (const made of readUIMessageStream({ stream: streamOf(chunks), onError: () => {} })) message = made;
        write({ client: this.client, kind: "end", message });
    }

    async leave() {
        if (this.transport.close) this.transport.close();
        else this.aborting.abort();
    }
}

/** An agent of AG-UI. A resumed run is one that the agent runs again. */
class AgUi {
    constructor({ client, url, headers, thread, run }) {
        this.client = client;
        this.agent = new HttpAgent({ url: `${url}/ag-ui`, threadId: thread, headers });
        this.runId = run;
    }

    start({ messages, tools, props }) {
        const { agent, client, runId } = this;
        agent.setMessages(messages);
        return new Promise((resolve, reject) => {
            const subscriber = {
                onEvent({ event }) {
                    resolve("streaming");
                    write({ client, kind: "event", event });
                },
            };
            agent.runAgent({ runId, tools, forwardedProps: props }, subscriber).then(
                () => {
                    resolve("streaming");
                    write({ client, kind: "end", messages: agent.messages });
                },
                (error) => {
                    reject(error); // without an effect if it has begun
                    write({ client, kind: "lost", error: String(error) });
                },
            );
        });
    }

    async leave() {
        this.agent.abortRun();
    }
}

console.error = () => {};
// A connection that breaks rejects promises that the packages don't await. A browser would only log them.
process.on("unhandledRejection", () => {});
const KINDS = { aiSdk: AiSdk, agUi: AgUi };

for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    if (command.do === "open") {
        clients.set(command.client, new KINDS[command.kind](command));
        continue;
    }
    const { client } = command;
    clients.get(client)[command.do](command).then(
        (result) => write({ client, kind: "done", result: result ?? null }),
        (error) => write({ client, kind: "refused", error: String(error.message ?? error) }),
    );
    if (command.do === "leave") clients.delete(client);
}
process.exit(0);
