/** Renders openapi.json and asyncapi.json. Their text is inserted as text, never parsed as HTML. */

import { CLIENTS, addressOf } from "../shared/base_urls.js";
import { createEntry, createTable, el, rich } from "./dom.js";
import { exampleBody, examples, exampleValue, fillPath } from "./examples.js";
import { createFieldTable, describeType, nameOf } from "./schema_text.js";
import { createIndex } from "./search.js";
import { createSignInBar } from "./sign_in_bar.js";
import { createTryIt } from "./try_it.js";

function createOperation(root, path, method, item) {
  const title = el("span", "path", el("span", "method", method.toUpperCase()), path);
  const parts = [item.description ? el("p", "", ...rich(item.description)) : ""];
  if (item.parameters?.length) {
    const rows = item.parameters.map((parameter) => [
      el("code", "", parameter.name),
      parameter.in,
      el("code", "", ...describeType(parameter.schema)),
      rich(parameter.description),
    ]);
    parts.push(el("h3", "", "Parameters"), createTable(["name", "in", "type", "description"], rows));
  }
  for (const content of Object.values(item.requestBody?.content ?? {})) {
    parts.push(el("h3", "", "Body"), createFieldTable(root, content.schema));
  }
  const responses = Object.entries(item.responses).map(([status, response]) => [
    el("code", "", status),
    rich(response.description),
    Object.entries(response.content ?? {}).flatMap(([mediaType, content]) => [
      el("div", "", el("code", "", mediaType, " ", ...describeType(content.schema))),
    ]),
  ]);
  parts.push(el("h3", "", "Responses"), createTable(["status", "description", "body"], responses));
  const entry = createEntry(item.operationId, title, rich(item.summary), ...parts);
  // Most entries are never opened.
  entry.addEventListener("toggle", () => entry.lastElementChild.append(...createUse(root, path, method, item)), { once: true });
  return entry;
}

/** Creates the examples of an operation, and its form. */
function createUse(root, path, method, item) {
  const isPublic = !(item.security ?? root.security ?? []).some((requirement) => "bearer" in requirement);
  const url = new URL(fillPath(path, exampleValue), document.baseURI).href;
  const texts = examples({ method: method.toUpperCase(), url, body: exampleBody(item), isPublic });
  const shown = Object.entries(texts).map(([language, text]) => {
    const code = el("details", "example", el("summary", "", language), el("pre", "", text));
    code.dataset.language = language;
    code.open = language === "curl";
    return code;
  });
  return [el("h3", "", "Examples"), ...shown, el("h3", "", "Try it"), createTryIt(path, method, item)];
}

function createSchemas(root) {
  return Object.entries(root.components.schemas).map(([name, schema]) =>
    createEntry(`schema-${name}`, el("span", "path", name), rich(schema.description), createFieldTable(root, schema)),
  );
}

function createMessage(root, name) {
  const item = root.components.messages[name];
  return createEntry(`message-${name}`, el("span", "path", name), rich(item.summary), createFieldTable(root, item.payload));
}

function createRequest(root, name, item) {
  const result = root.components.messages[`${name}.result`].payload.properties.result;
  return createEntry(
    `message-${name}`,
    el("span", "path", name),
    rich(item.summary),
    createFieldTable(root, root.components.messages[name].payload),
    el("h3", "", "Result"),
    createFieldTable(root, result),
  );
}

function createSection(id, title, ...content) {
  const heading = el("h2", "", title);
  heading.id = id;
  return [heading, ...content];
}

function render(openapi, asyncapi) {
  document.getElementById("version").textContent = openapi.info.version;
  const http = Object.entries(openapi.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, item]) => createOperation(openapi, path, method, item)),
  );
  const { events, ...requests } = asyncapi.operations;
  const eventEntries = events.messages.map((reference) => createMessage(asyncapi, nameOf(reference.$ref)));
  const merged = { ...asyncapi, components: { schemas: { ...asyncapi.components.schemas, ...openapi.components.schemas } } };
  const content = document.getElementById("content");
  const clients = CLIENTS.map((entry) => [entry.clients, el("code", "", addressOf(entry))]);
  content.replaceChildren(
    ...createSection("clients", "Clients"),
    el("p", "", "Clients of other services work with one of these addresses. Their API key is the key or the token of a user."),
    createTable(["client", "address"], clients),
    ...createSection("http", "HTTP", openapi.security ? createSignInBar() : "", ...http),
    ...createSection("socket", `WebSocket ${asyncapi.channels.socket.address}`, el("p", "", asyncapi.servers.gateway.description)),
    el("h3", "", "Requests"),
    ...Object.entries(requests).map(([name, item]) => createRequest(asyncapi, name, item)),
    el("h3", "", "Events"),
    ...eventEntries,
    ...createSection("schemas", "Schemas", ...createSchemas(merged)),
  );
  content.removeAttribute("aria-busy");
  createIndex(document.getElementById("index"), content);
  openTarget();
}

/** Opens the collapsed entry that the URL links to. */
function openTarget() {
  const target = document.getElementById(targetId());
  if (target instanceof HTMLDetailsElement) target.open = true;
  target?.scrollIntoView();
}

function targetId() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return location.hash.slice(1);
  }
}

async function fetchJson(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} returned status ${response.status}`);
  return response.json();
}

addEventListener("hashchange", openTarget);
try {
  render(...(await Promise.all([fetchJson("openapi.json"), fetchJson("asyncapi.json")])));
} catch (error) {
  const text = `Failed to load the documents: ${error.message}. Reload the page.`;
  document.getElementById("content").replaceChildren(el("p", "error", text));
}
