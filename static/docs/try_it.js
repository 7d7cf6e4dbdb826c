/** A form that sends a request to this gateway, with the sign-in of the page, and shows the answer while it arrives. */

import { authorizationHeader } from "../shared/credential.js";
import { el } from "./dom.js";
import { exampleBody, exampleValue, fillPath } from "./examples.js";

const CHARS_MAX = 200_000;

/** Creates the form of an operation. @param {string} path @param {string} method @param {object} item of the OpenAPI document */
export function createTryIt(path, method, item) {
  const fields = (item.parameters ?? []).filter((parameter) => parameter.in !== "header").map(createField);
  const body = exampleBody(item);
  const text = body === undefined ? null : Object.assign(el("textarea", "body"), { value: JSON.stringify(body, null, 2), rows: 8, spellcheck: false });
  text?.setAttribute("aria-label", "Body");
  const types = Object.keys(Object.values(item.responses)[0]?.content ?? {});
  const accept = el("select", "", ...types.map((type) => el("option", "", type)));
  accept.setAttribute("aria-label", "Accept");
  const send = Object.assign(el("button", "send", "Send"), { type: "submit" });
  const status = el("p", "status");
  status.setAttribute("role", "status");
  const output = el("pre", "output");
  output.tabIndex = 0;
  const form = el("form", "try-it", ...fields.map(({ label }) => label), text ?? "", types.length > 1 ? accept : "", send, status, output);
  let running = null;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running) return running.abort();
    running = new AbortController();
    send.textContent = "Stop";
    output.textContent = "";
    try {
      await ask(urlOf(path, fields), { method: method.toUpperCase(), body: text?.value, accept: types.length > 1 ? accept.value : null, signal: running.signal }, status, output);
    } catch (error) {
      status.textContent = error.name === "AbortError" ? "Stopped." : `Failed: ${error.message}`;
    } finally {
      running = null;
      send.textContent = "Send";
    }
  });
  return form;
}

function createField(parameter) {
  const input = el("input");
  Object.assign(input, { name: parameter.name, required: parameter.in === "path", value: parameter.in === "path" ? exampleValue(parameter.name) : "" });
  return { parameter, input, label: el("label", "", el("code", "", parameter.name), input) };
}

/** Returns the address relative to this page, so that a path prefix works. */
function urlOf(path, fields) {
  const valueOf = (name) => fields.find(({ parameter }) => parameter.name === name).input.value;
  const query = new URLSearchParams();
  for (const { parameter, input } of fields) if (parameter.in === "query" && input.value) query.set(parameter.name, input.value);
  return `${fillPath(path, valueOf)}${query.size > 0 ? `?${query}` : ""}`;
}

async function ask(url, { method, body, accept, signal }, status, output) {
  const headers = { ...authorizationHeader(), ...(accept && { accept }), ...(body !== undefined && { "content-type": "application/json" }) };
  status.textContent = "Waiting for the answer…";
  const response = await fetch(url, { method, headers, body, signal });
  status.textContent = `${response.status} ${response.statusText} · ${response.headers.get("content-type") ?? "no content"}`;
  if (response.status === 401) status.textContent += ". Sign in at the top of this page.";
  if (/^(image|audio|video|application\/octet-stream)/.test(response.headers.get("content-type") ?? "")) {
    output.textContent = `${(await response.arrayBuffer()).byteLength} bytes, which aren't text.`;
    return;
  }
  await show(response, output);
}

/** Appends the text of the answer as it arrives. JSON that is complete is indented. */
async function show(response, output) {
  const isJson = response.headers.get("content-type")?.includes("application/json");
  let chars = 0;
  for (const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader(); reader; ) {
    const { done, value } = await reader.read();
    if (done) break;
    if (chars < CHARS_MAX) output.append(value.slice(0, CHARS_MAX - chars));
    chars += value.length;
  }
  if (chars > CHARS_MAX) return output.append(`\n… ${chars - CHARS_MAX} more characters aren't shown.`);
  try {
    if (isJson) output.textContent = JSON.stringify(JSON.parse(output.textContent), null, 2);
  } catch {
    // It is shown as it is.
  }
}
