/** npm's `openai` and the AI SDK's provider for it against OpenAI Responses here. `node responses_client.js URL` writes
 * what they received as JSON. */

import { createOpenAI } from "@ai-sdk/openai";
import { generateText, jsonSchema, streamText, tool } from "ai";
import OpenAI from "openai";

const baseURL = `${process.argv[2]}/v1`;
const demo = { rate: 0, text: "Hm.", thinking: 2, tool: { name: "add", arguments: '{"a":1}' } };

const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const parameters = { type: "object", properties: {} };
const tools = [{ type: "function", name: "add", parameters, strict: false }];
const stream = client.responses.stream({ model: "demo", input: "Add 1 and 2.", tools, demo });
const deltas = [];
stream.on("response.output_text.delta", (event) => deltas.push(event.delta));
const whole = await stream.finalResponse();
const result = [{ type: "function_call_output", call_id: whole.output.at(-1).call_id, output: "3" }];
const next = { model: "demo", input: result, previous_response_id: whole.id, demo: { rate: 0, text: "It is 3." } };
const answer = await client.responses.create(next);
const refused = await client.responses.create({ model: "nobody", input: "Hi" }).catch((error) => [error.status, error.code]);

/** Add what the provider doesn't know to the body. */
const withDemo = (script) => (url, options) =>
    fetch(url, { ...options, body: JSON.stringify({ ...JSON.parse(options.body), demo: script }) });
const provider = (script) => createOpenAI({ baseURL, apiKey: "none", fetch: withDemo(script) }).responses("demo");
const add = tool({ description: "Add.", inputSchema: jsonSchema(parameters) });
const streamed = streamText({ model: provider(demo), prompt: "Add 1 and 2.", tools: { add } });
const calls = await streamed.toolCalls;
const generated = await generateText({ model: provider({ rate: 0, text: "It is 3." }), prompt: "Add 1 and 2." });

console.log(
    JSON.stringify({
        deltas: deltas.join(""),
        text: whole.output_text,
        types: whole.output.map((item) => item.type),
        answer: answer.output_text,
        refused,
        streamed: [await streamed.text, calls.map((call) => [call.toolName, call.input]), await streamed.finishReason],
        reasoning: (await streamed.reasoningText).length > 0,
        generated: generated.text,
        usage: generated.usage.outputTokens > 0,
    }),
);
