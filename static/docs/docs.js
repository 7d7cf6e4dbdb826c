/** Renders openapi.json and asyncapi.json. Their text is inserted as text, never parsed as HTML. */

import { CLIENTS, addressOf } from "../shared/base_urls.js";

/** Creates an element. Children that are undefined or the empty string are skipped. */
function el(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children.filter((child) => child !== undefined && child !== ""));
  return element;
}

/** Resolves a schema's `$ref`, if it has one. */
function resolveRef(root, schema) {
  if (!schema?.$ref) return schema;
  return schema.$ref.slice(2).split("/").reduce((node, key) => node?.[key.replaceAll("~1", "/")], root);
}

function nameOf(reference) {
  return reference.slice(reference.lastIndexOf("/") + 1);
}

function schemaLink(name) {
  const link = el("a", "", name);
  link.href = `#schema-${name}`;
  return link;
}

/** Describes a schema in a few words. Names of schemas are links. */
function describeType(schema) {
  if (!schema) return ["nothing"];
  if (schema.$ref) return [schemaLink(nameOf(schema.$ref))];
  if (schema.const !== undefined) return [JSON.stringify(schema.const)];
  if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(" | ")];
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.flatMap((choice, n) => (n ? [" | ", ...describeType(choice)] : describeType(choice)));
  if (schema.type === "array") return ["array of ", ...describeType(schema.items)];
  if (schema.type === "object" && schema.additionalProperties) return ["map of ", ...describeType(schema.additionalProperties)];
  return [[schema.type ?? "anything", ...describeBounds(schema)].join(", ")];
}

function describeBounds(schema) {
  const labels = { minimum: "≥", maximum: "≤", minLength: "length ≥", maxLength: "length ≤", maxItems: "items ≤", pattern: "matches" };
  return Object.entries(labels)
    .filter(([key]) => schema[key] !== undefined)
    .map(([key, label]) => `${label} ${schema[key]}`);
}

function createTable(headings, rows) {
  if (!rows.length) return el("p", "", "No fields.");
  const head = el("tr", "", ...headings.map((text) => el("th", "", text)));
  const body = rows.map((cells) => el("tr", "", ...cells.map((cell) => el("td", "", ...[cell].flat()))));
  return el("div", "scroll", el("table", "", el("thead", "", head), el("tbody", "", ...body)));
}

function createFieldTable(root, reference) {
  const schema = resolveRef(root, reference);
  if (!schema?.properties) return el("p", "", ...describeType(schema));
  const required = new Set(schema.required);
  return createTable(
    ["field", "type", ""],
    Object.entries(schema.properties).map(([name, inner]) => [
      el("code", "", name),
      el("code", "", ...describeType(inner)),
      required.has(name) ? "required" : inner.default == null ? "" : `default ${JSON.stringify(inner.default)}`,
    ]),
  );
}

function createEntry(id, title, summary, ...content) {
  const heading = el("summary", "", title, el("span", "summary", summary ?? ""));
  const item = el("details", "entry", heading, el("div", "", ...content));
  item.id = id;
  return item;
}

function createOperation(root, path, method, item) {
  const title = el("span", "path", el("span", "method", method.toUpperCase()), path);
  const parts = [item.description ? el("p", "", item.description) : ""];
  if (item.parameters?.length) {
    const rows = item.parameters.map((parameter) => [
      el("code", "", parameter.name),
      parameter.in,
      el("code", "", ...describeType(parameter.schema)),
      parameter.description ?? "",
    ]);
    parts.push(el("h3", "", "Parameters"), createTable(["name", "in", "type", ""], rows));
  }
  for (const content of Object.values(item.requestBody?.content ?? {})) {
    parts.push(el("h3", "", "Body"), createFieldTable(root, content.schema));
  }
  const responses = Object.entries(item.responses).map(([status, response]) => [
    el("code", "", status),
    response.description,
    Object.entries(response.content ?? {}).flatMap(([mediaType, content]) => [
      el("div", "", el("code", "", mediaType, " ", ...describeType(content.schema))),
    ]),
  ]);
  parts.push(el("h3", "", "Responses"), createTable(["status", "", "body"], responses));
  return createEntry(item.operationId, title, item.summary, ...parts);
}

function createSchemas(root) {
  return Object.entries(root.components.schemas).map(([name, schema]) =>
    createEntry(`schema-${name}`, el("span", "path", name), schema.description, createFieldTable(root, schema)),
  );
}

function createMessage(root, name) {
  const item = root.components.messages[name];
  return createEntry(`message-${name}`, el("span", "path", name), item.summary, createFieldTable(root, item.payload));
}

function createRequest(root, name, item) {
  const result = root.components.messages[`${name}.result`].payload.properties.result;
  return createEntry(
    `message-${name}`,
    el("span", "path", name),
    item.summary,
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
    ...createSection("http", "HTTP", ...http),
    ...createSection("socket", `WebSocket ${asyncapi.channels.socket.address}`, el("p", "", asyncapi.servers.gateway.description)),
    el("h3", "", "Requests"),
    ...Object.entries(requests).map(([name, item]) => createRequest(asyncapi, name, item)),
    el("h3", "", "Events"),
    ...eventEntries,
    ...createSection("schemas", "Schemas", ...createSchemas(merged)),
  );
  content.removeAttribute("aria-busy");
  openTarget();
}

/** Opens the collapsed entry that the URL links to. */
function openTarget() {
  const target = document.getElementById(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) target.open = true;
  target?.scrollIntoView();
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
