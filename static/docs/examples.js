/** Writes a request as a command of curl, and as a program in Python and JavaScript. */

/** Bodies that show what a request does. Any other has its required fields. */
const BODIES = {
  postTurns: { model: "demo", input: "Why is the sky blue?" },
  postTurnsEstimate: { model: "demo", input: "Why is the sky blue?" },
  postConversations: { title: "A new conversation" },
  patchConversationsOne: { title: "A better title" },
  postMessagesFeedback: { rating: "up", comment: "Short and right." },
  postRevocations: { user: "alice" },
  postChatCompletions: { model: "demo", messages: [{ role: "user", content: "Why is the sky blue?" }] },
  postResponses: { model: "demo", input: "Why is the sky blue?" },
  postMessages: { model: "demo", max_tokens: 200, messages: [{ role: "user", content: "Why is the sky blue?" }] },
  postMessagesCount_Tokens: { model: "demo", messages: [{ role: "user", content: "Why is the sky blue?" }] },
  postApiChat: { message: "Why is the sky blue?" },
  "postAg-Ui": { threadId: "thread-1", runId: "run-1", messages: [{ id: "m-1", role: "user", content: "Why is the sky blue?" }] },
  postStream: { messages: [{ role: "user", content: "Why is the sky blue?" }] },
  postChat: { message: "Why is the sky blue?" },
  postApiConversationsMessages: { content: "Why is the sky blue?" },
  postApiConversationsFeedback: { message_id: "MESSAGE", rating: 5 },
};
const VALUES = { user: "me", number: "0", model: "demo" };

/** Returns an operation's example body; undefined if it has none. */
export function exampleBody(item) {
  if (!item.requestBody) return undefined;
  return BODIES[item.operationId] ?? BODIES[item.operationId.replace("Openai", "")] ?? {};
}

/** Returns the value of a path's parameter. @param {string} name */
export function exampleValue(name) {
  return VALUES[name] ?? name.toUpperCase();
}

/** Returns the path with its parameters filled in, without the leading slash. @param {(name: string) => string} valueOf */
export function fillPath(path, valueOf) {
  return path.slice(1).replaceAll(/\{(\w+)\}/g, (_, name) => encodeURIComponent(valueOf(name)));
}

/**
 * Returns the examples of a request, by language.
 * @param {{method: string, url: string, body?: object, isPublic: boolean}} request `isPublic`: it needs no credential
 */
export function examples(request) {
  return { curl: curl(request), Python: python(request), JavaScript: javaScript(request) };
}

function curl({ method, url, body, isPublic }) {
  const lines = [`curl ${method === "GET" ? "" : `-X ${method} `}${shell(url)}`];
  if (!isPublic) lines.push('-H "Authorization: Bearer $TURNWIRE_KEY"');
  if (body !== undefined) lines.push("-H 'Content-Type: application/json'", `-d ${shell(JSON.stringify(body))}`);
  return lines.join(" \\\n  ");
}

function python({ method, url, body, isPublic }) {
  const options = [];
  if (!isPublic) options.push('headers={"Authorization": f"Bearer {os.environ[\'TURNWIRE_KEY\']}"}');
  if (body !== undefined) options.push(`json=${pythonValue(body)}`);
  options.push("timeout=60");
  const given = [JSON.stringify(method), JSON.stringify(url), ...options].join(",\n    ");
  return `${isPublic ? "" : "import os\n\n"}import httpx\n\nresponse = httpx.request(\n    ${given},\n)\nresponse.raise_for_status()\nprint(response.text)`;
}

function javaScript({ method, url, body, isPublic }) {
  const headers = [];
  if (!isPublic) headers.push("authorization: `Bearer ${process.env.TURNWIRE_KEY}`");
  if (body !== undefined) headers.push('"content-type": "application/json"');
  const options = [`method: ${JSON.stringify(method)}`];
  if (headers.length > 0) options.push(`headers: { ${headers.join(", ")} }`);
  if (body !== undefined) options.push(`body: JSON.stringify(${JSON.stringify(body)})`);
  const given = options.map((option) => `  ${option},\n`).join("");
  return `const response = await fetch(${JSON.stringify(url)}, {\n${given}});\nif (!response.ok) throw new Error(await response.text());\nconsole.log(await response.text());`;
}

function shell(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** Writes a JSON value in Python, in which null, true and false have other names. */
function pythonValue(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(pythonValue).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([name, inner]) => `${JSON.stringify(name)}: ${pythonValue(inner)}`).join(", ")}}`;
  return JSON.stringify(value);
}
