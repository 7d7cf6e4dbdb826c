/**
 * Clients of npm's packages for `node_players.py`. Each line of the input is a command `{client, do, …}`; each line of the
 * output is `{client, kind, …}`: an event of the client's stream, or how a command has ended.
 */

import { createInterface } from "node:readline";
import { DefaultChatTransport, WebSocketChatTransport, readUIMessageStream } from "ai";

const clients = new Map();
const write = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

function streamOf(chunks) {
    return new ReadableStream({
        start(controller) {
            chunks.forEach((chunk) => controller.enqueue(chunk));
            controller.close();
        },
    });
}

/** A client of the AI SDK. Its message is made of the chunks by the SDK itself. */
class AiSdk {
    constructor({ client, socket, url, headers, chat }) {
        Object.assign(this, { client, chat, url, headers });
        this.transport = socket
            ? new WebSocketChatTransport({ url: `${url}/ai-sdk/ws`, headers })
            : new DefaultChatTransport({ api: `${url}/api/chat`, headers });
        this.aborting = new AbortController();
    }

    async start({ messages, body }) {
        const options = { trigger: "submit-message", chatId: this.chat, messages, body, abortSignal: this.aborting.signal };
        this.read(await this.transport.sendMessages(options));
        return "streaming";
    }

    async resume() {
        const stream = await this.transport.reconnectToStream({ chatId: this.chat, abortSignal: this.aborting.signal });
        if (stream === null) return "nothing";
        this.read(stream);
        return "streaming";
    }

    async read(stream) {
        const chunks = [];
        try {
            for await (const chunk of stream) {
                chunks.push(chunk);
                write({ client: this.client, kind: "event", event: chunk });
            }
            let message = null;
            for await (const made of readUIMessageStream({ stream: streamOf(chunks) })) message = made;
            write({ client: this.client, kind: "end", message });
        } catch (error) {
            write({ client: this.client, kind: "lost", error: String(error) });
        }
    }

    async leave() {
        if (this.transport.close) this.transport.close();
        else this.aborting.abort();
    }

    /** Stop the answer by the socket of this client. */
    async stop() {
        this.aborting.abort();
    }
}

const KINDS = { aiSdk: AiSdk };

for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    if (command.do === "open") clients.set(command.client, new KINDS[command.kind](command));
    else {
        const client = clients.get(command.client);
        client[command.do](command).then(
            (result) => write({ client: command.client, kind: "done", result: result ?? null }),
            (error) => write({ client: command.client, kind: "refused", error: String(error.message ?? error) }),
        );
    }
}
process.exit(0);
