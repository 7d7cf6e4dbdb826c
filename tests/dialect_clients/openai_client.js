/** npm's `openai` against the gateway. `node openai_client.js URL` writes what it received as JSON. */

import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "Add 1 and 2." }];
const tools = [{ type: "function", function: { name: "add", parameters: { type: "object", properties: {} } } }];
const demo = { rate: 0, text: "Hm.", thinking: 2, tool: { name: "add", arguments: '{"a":1}' } };

const models = [];
for await (const model of client.models.list()) models.push(model.id);
const answer = await client.chat.completions.create({ model: "demo", messages, demo: { rate: 0, text: "It is 3." } });
const options = { model: "demo", messages, tools, stream_options: { include_usage: true }, demo };
const stream = client.chat.completions.stream(options);
const deltas = [];
stream.on("content", (delta) => deltas.push(delta));
const whole = await stream.finalChatCompletion();
const refused = await client.chat.completions.create({ model: "nobody", messages }).catch((error) => [error.status, error.code]);
const stopped = await client.chat.completions.create({ model: "demo", messages, stream: true, demo: { rate: 20 } });
for await (const chunk of stopped) if (chunk.choices[0].delta.content) break;

console.log(
    JSON.stringify({
        models,
        answer: answer.choices[0].message.content,
        deltas: deltas.join(""),
        content: whole.choices[0].message.content,
        call: whole.choices[0].message.tool_calls[0].function,
        finish_reason: whole.choices[0].finish_reason,
        usage: whole.usage.total_tokens,
        refused,
    }),
);
