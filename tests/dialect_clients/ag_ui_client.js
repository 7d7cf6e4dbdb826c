/**
 * npm's `@ag-ui/client` against the gateway. `node ag_ui_client.js URL` writes what each scenario has received as JSON.
 *
 * Every event of every stream is checked: by the schema of `@ag-ui/core`, by the client's own pipeline (whose warnings
 * about unknown fields count as failures), and by `verifyEvents` for the streams that are put together from two.
 */

import { HttpAgent, enforceEvents, transformChunks, verifyEvents } from "@ag-ui/client";
import { EventSchemas } from "@ag-ui/core/schemas";
import { from, lastValueFrom, toArray } from "rxjs";

const [url] = process.argv.slice(2);
const found = {};
const warnings = [];
console.warn = (...words) => warnings.push(words.join(" "));
console.error = () => {};

const demo = (options) => ({ forwardedProps: { model: "demo", demo: { rate: 0, ...options } } });
const ids = new Intl.NumberFormat("en", { minimumIntegerDigits: 3 });
let made = 0;
const newId = (kind) => `${kind}-${ids.format(++made)}`;
const user = (content, id = newId("u")) => ({ id, role: "user", content });

/** The events and the ids in the text of a stream. Each event is checked by the schema. */
function parse(text) {
    const frames = text.split("\n\n").filter((frame) => frame && !frame.startsWith(":"));
    return frames.map((frame) => {
        const fields = Object.fromEntries(frame.split("\n").map((line) => [line.split(": ", 1)[0], line.slice(line.indexOf(": ") + 2)]));
        const event = JSON.parse(fields.data);
        EventSchemas.parse(event);
        if (JSON.stringify(event).includes(":null")) throw new Error(`null in ${fields.data}`);
        return { id: fields.id, event };
    });
}

/** An agent whose streams are recorded in `seen.streams`, and whose callbacks in the rest of `seen`. */
function open(threadId, options = {}) {
    const seen = { streams: [], outcomes: [], errors: [], turns: [] };
    const { signal, ...others } = options;
    const agent = new HttpAgent({
        url: `${url}/ag-ui`,
        threadId,
        ...others,
        fetch: async (address, init) => {
            const answer = await fetch(address, init);
            seen.turns.push(answer.headers.get("turnwire-turn"));
            if (!answer.ok) return answer;
            const [own, recorded] = answer.body.tee();
            const reading = new Response(recorded).text().then(parse, (error) => (error.name === "ZodError" ? Promise.reject(error) : []));
            seen.streams.push(reading);
            return new Response(own, { status: answer.status, headers: answer.headers });
        },
    });
    agent.subscribe({
        onRunFinishedEvent: ({ event }) => void seen.outcomes.push(event.outcome),
        onRunErrorEvent: ({ event }) => void seen.errors.push([event.code, event.message]),
    });
    return { agent, seen };
}

const types = async (seen, n = -1) => (await seen.streams.at(n)).map(({ event }) => event.type);
const shown = (agent) => agent.messages.map(({ role, content }) => `${role}: ${typeof content === "string" ? content : ""}`);
const turn = async (id) => (await fetch(`${url}/v1/turns/${id}`)).json();
const stop = (id) => fetch(`${url}/v1/turns/${id}/cancel`, { method: "POST" });
const textOf = (view) => view.message.parts.filter(({ kind }) => kind === "text").map(({ text }) => text).join("");
const answerOf = (agent) => agent.messages.findLast(({ role }) => role === "assistant");
async function until(condition) {
    while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 10));
}

// A conversation: reasoning, text, usage; the second question has the first one as its context.
{
    const { agent, seen } = open("talk");
    agent.setMessages([user("Hello")]);
    await agent.runAgent({ runId: "talk-1", ...demo({ thinking: 3, text: "Hi you." }) });
    const first = await types(seen);
    const [started] = await seen.streams[0];
    const finished = (await seen.streams[0]).at(-1).event;
    agent.addMessage(user("And?"));
    await agent.runAgent({ runId: "talk-2", ...demo({ text: "That is all." }) });
    const view = await turn("talk-2");
    found.talk = {
        shown: shown(agent),
        first,
        second: await types(seen),
        started: started.event,
        usage: [finished.usage, (await turn("talk-1")).usage],
        turns: seen.turns,
        view: [view.status, view.conversation, view.message.id === answerOf(agent).id],
    };
}

// An edit, a regeneration and a shorter history make branches, each with the context that the client shows.
{
    const { agent, seen } = open("branches");
    const [one, two] = [user("One"), user("Two")];
    const run = (text) => agent.runAgent(demo({ text }));
    agent.setMessages([one]);
    await run("First.");
    agent.addMessage(two);
    await run("Second.");
    agent.setMessages([...agent.messages.slice(0, 2), { ...two, content: "Two, edited" }]);
    await run("Second, edited.");
    const edited = shown(agent);
    agent.setMessages(agent.messages.slice(0, 3));
    await run("Second, again.");
    const again = shown(agent);
    agent.setMessages(agent.messages.slice(0, 2).concat(user("Other")));
    await run("A branch.");
    const shorter = shown(agent);
    const parents = (await (await fetch(`${url}/v1/conversations/branches/messages`)).json()).messages.filter(({ role }) => role === "user");
    agent.setMessages([{ ...one, content: "One, edited" }]);
    await run("Edited first.");
    found.branches = {
        edited,
        again,
        shorter,
        last: shown(agent),
        parents: parents.map(({ parent, parts }) => [parts[0].text, parent === parents[1].parent]),
        snapshots: (await Promise.all(seen.streams)).flat().filter(({ event }) => event.type === "MESSAGES_SNAPSHOT").length,
    };
}

// A tool of the client: the run ends with its call pending; the next one has its result.
{
    const { agent, seen } = open("tools");
    const tools = [{ name: "add", description: "Add", parameters: { type: "object", properties: {} } }];
    agent.setMessages([user("Add 1 and 2")]);
    await agent.runAgent({ tools, ...demo({ text: "Let me see.", tool: { name: "add", arguments: '{"a": 1}' } }) });
    const call = answerOf(agent).toolCalls[0];
    const pending = [agent.messages.length, answerOf(agent).content, call.function, seen.outcomes[0].pendingToolCallIds[0] === call.id];
    agent.addMessage({ id: newId("t"), role: "tool", toolCallId: call.id, content: "3" });
    await agent.runAgent({ tools, ...demo({ text: "It is 3." }) });
    const { messages } = await (await fetch(`${url}/v1/conversations/tools/messages`)).json();
    found.tools = {
        pending,
        outcomes: seen.outcomes.map(({ type }) => type),
        shown: shown(agent),
        first: await types(seen, 0),
        stored: messages.map(({ role, parts }) => [role, parts.at(-1).kind]),
    };
}

// A client that has lost everything shows the thread, and one that sends only a new message gets the rest in order.
{
    const { agent, seen } = open("talk");
    await agent.runAgent({ runId: "nothing" });
    const loaded = shown(agent);
    const other = open("talk");
    other.agent.setMessages([user("More?", "u-more")]);
    await other.agent.runAgent(demo({ text: "No." }));
    found.history = { loaded, first: await types(seen), shown: shown(other.agent), second: await types(other.seen) };
}

// A repeated run attaches: the second client sees the same. With other content it is a conflict. A stop ends both.
{
    const asked = user("Count");
    const endless = demo({ rate: 50, tokens: 100000, thinking: 3 });
    const thoughts = (agent) => agent.messages.filter(({ role }) => role === "reasoning").map(({ content }) => content).join("|");
    const { agent, seen } = open("shared");
    agent.setMessages([asked]);
    const running = agent.runAgent({ runId: "shared-1", ...endless });
    await until(() => (answerOf(agent)?.content ?? "").length > 20);
    const other = open("shared");
    other.agent.setMessages([asked]);
    const attached = other.agent.runAgent({ runId: "shared-1", ...endless });
    // This one has shown a part of the answer before its connection broke.
    const again = open("shared");
    again.agent.setMessages(agent.messages);
    const reattached = again.agent.runAgent({ runId: "shared-1", ...endless });
    const lost = open("shared");
    const loaded = lost.agent.runAgent({ runId: "lost" });
    await until(() => [other, again, lost].every(({ agent }) => (answerOf(agent)?.content ?? "").length > 20));
    const wrong = open("shared");
    wrong.agent.setMessages([{ ...asked, content: "Stop" }]);
    const conflict = await wrong.agent.runAgent({ runId: "shared-1", ...endless }).catch((error) => error);
    await stop("shared-1");
    await Promise.all([running, attached, reattached, loaded]);
    const view = await turn("shared-1");
    const same = textOf(view);
    found.shared = {
        texts: [agent, other.agent, again.agent, lost.agent].map((one) => answerOf(one).content === same && same.length > 20),
        lengths: [agent, other.agent, again.agent, lost.agent].map((one) => one.messages.length),
        outcomes: [seen, other.seen, again.seen, lost.seen].map(({ outcomes }) => outcomes),
        thoughts: [agent, other.agent, again.agent, lost.agent].map((one) => thoughts(one) === thoughts(agent) && thoughts(agent).length > 5),
        conflict: [conflict.status, conflict.payload?.type, conflict.payload?.code],
        snapshots: await Promise.all([seen, other.seen, again.seen, lost.seen].map(async (one) => (await types(one)).filter((type) => type === "MESSAGES_SNAPSHOT").length)),
        runs: (await lost.seen.streams[0])[0].event.runId,
        status: view.status,
    };
}

// A stream that is resumed at each of its events continues exactly there.
{
    const body = { threadId: "resumed", runId: "resumed-1", messages: [user("Go")], ...demo({ thinking: 4, text: "One two three four.", tool: { name: "add", arguments: '{"a":1}' } }) };
    const post = (headers) => fetch(`${url}/ag-ui`, { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json", ...headers } });
    const whole = parse(await (await post({})).text());
    const events = (list) => list.map(({ event }) => event);
    const joined = (list) => list.map(({ delta, ...event }) => JSON.stringify(event)).filter((event, n, all) => event !== all[n - 1]);
    const texts = (list) => list.map(({ delta }) => delta ?? "").join("");
    const checked = [];
    for (const [n, { id }] of whole.entries()) {
        if (!id) continue;
        const answer = await post({ "last-event-id": id });
        const rest = answer.status === 204 ? [] : events(parse(await answer.text()));
        const all = [...events(whole.slice(0, n + 1)), ...rest];
        const passed = await lastValueFrom(from(all).pipe(enforceEvents(), transformChunks(), verifyEvents(), toArray()));
        checked.push([answer.status, passed.length === all.length, JSON.stringify(joined(all)) === JSON.stringify(joined(events(whole))), texts(all) === texts(events(whole))]);
    }
    found.resumed = { positions: checked.length, wrong: checked.filter((one) => one.slice(1).includes(false)), last: checked.at(-1)[0] };
}

// Failures: before the first token (a status), in the middle (an event); then a new run succeeds.
{
    const { agent, seen } = open("fails");
    agent.setMessages([user("Fail")]);
    const before = await agent.runAgent(demo({ fail: "before" })).catch((error) => error);
    await agent.runAgent(demo({ text: "One two three four.", fail: "mid" })).catch(() => {});
    const partial = shown(agent);
    agent.addMessage(user("Again"));
    await agent.runAgent(demo({ text: "Fine now." }));
    found.fails = { before: [before.status, before.payload?.type, before.payload?.code], errors: seen.errors, partial, shown: shown(agent) };
}

// A client that goes away leaves the run, unless its header says otherwise. A further message ends what runs.
{
    const endless = demo({ rate: 50, tokens: 100000 });
    const statuses = {};
    for (const kind of ["continue", "cancel"]) {
        const { agent } = open(`left-${kind}`, { headers: kind === "cancel" ? { "turnwire-on-disconnect": "cancel" } : {} });
        agent.setMessages([user("Count")]);
        const running = agent.runAgent({ runId: `left-${kind}-1`, ...endless });
        await until(() => (answerOf(agent)?.content ?? "").length > 20);
        agent.abortRun();
        await running.catch(() => {});
        if (kind === "cancel") await until(async () => (await turn(`left-${kind}-1`)).status !== "running");
        statuses[kind] = (await turn(`left-${kind}-1`)).status;
        agent.addMessage(user("Next"));
        await agent.runAgent(demo({ text: "Done." }));
        statuses[`${kind} after`] = [(await turn(`left-${kind}-1`)).status, answerOf(agent).content];
    }
    found.left = statuses;
}

// Context, state, an image, tools with all their fields, and what a client before 1.0 sends.
{
    const { agent, seen } = open("given", { initialState: { cart: [3] } });
    const image = { type: "image", source: { type: "data", value: "iVBORw0KGgo=", mimeType: "image/png" } };
    const sound = { type: "audio", source: { type: "url", value: "https://example.org/a.mp3" } };
    agent.setMessages([{ id: newId("s"), role: "system", content: "Be brief." }, { ...user("x"), content: [{ type: "text", text: "Look" }, image, sound] }]);
    const context = [{ description: "The page", value: "Checkout" }];
    await agent.runAgent({ context, ...demo({ text: "I see." }) });
    const conversation = await (await fetch(`${url}/v1/conversations/given`)).json();
    const { messages } = await (await fetch(`${url}/v1/conversations/given/messages`)).json();
    found.given = { system: conversation.system, parts: messages[0].parts.map(({ kind }) => kind), shown: shown(agent), types: await types(seen) };
}

found.warnings = warnings;
console.log(JSON.stringify(found));
