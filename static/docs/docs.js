// Shows openapi.json and asyncapi.json. Builds nodes and sets text: nothing of a document is ever read as HTML.

/** An element with text or children. */
function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children.filter((child) => child !== undefined && child !== ""));
  return element;
}

/** What a `$ref` stands for. */
function found(root, schema) {
  if (!schema?.$ref) return schema;
  return schema.$ref.slice(2).split("/").reduce((at, key) => at?.[key.replaceAll("~1", "/")], root);
}

function nameOf(reference) {
  return reference.slice(reference.lastIndexOf("/") + 1);
}

function linked(name) {
  const link = make("a", "", name);
  link.href = `#schema-${name}`;
  return link;
}

/** A schema in a few words, names of schemas as links. */
function typeOf(schema) {
  if (!schema) return ["nothing"];
  if (schema.$ref) return [linked(nameOf(schema.$ref))];
  if (schema.const !== undefined) return [JSON.stringify(schema.const)];
  if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(" | ")];
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.flatMap((choice, n) => (n ? [" | ", ...typeOf(choice)] : typeOf(choice)));
  if (schema.type === "array") return ["list of ", ...typeOf(schema.items)];
  if (schema.type === "object" && schema.additionalProperties) return ["map of ", ...typeOf(schema.additionalProperties)];
  return [[schema.type ?? "anything", ...bounds(schema)].join(", ")];
}

function bounds(schema) {
  const words = { minimum: "≥", maximum: "≤", minLength: "length ≥", maxLength: "length ≤", maxItems: "items ≤", pattern: "like" };
  return Object.entries(words)
    .filter(([key]) => schema[key] !== undefined)
    .map(([key, word]) => `${word} ${schema[key]}`);
}

function table(heads, rows) {
  if (!rows.length) return make("p", "", "No fields.");
  const head = make("tr", "", ...heads.map((text) => make("th", "", text)));
  const body = rows.map((cells) => make("tr", "", ...cells.map((cell) => make("td", "", ...[cell].flat()))));
  return make("div", "scroll", make("table", "", make("thead", "", head), make("tbody", "", ...body)));
}

function fields(root, reference) {
  const schema = found(root, reference);
  if (!schema?.properties) return make("p", "", ...typeOf(schema));
  const required = new Set(schema.required);
  return table(
    ["field", "type", ""],
    Object.entries(schema.properties).map(([name, inner]) => [
      make("code", "", name),
      make("code", "", ...typeOf(inner)),
      required.has(name) ? "required" : inner.default == null ? "" : `default ${JSON.stringify(inner.default)}`,
    ]),
  );
}

function entry(id, title, summary, ...content) {
  const heading = make("summary", "", title, make("span", "summary", summary ?? ""));
  const shown = make("details", "entry", heading, make("div", "", ...content));
  shown.id = id;
  return shown;
}

function operation(root, path, method, shown) {
  const title = make("span", "path", make("span", "method", method.toUpperCase()), path);
  const parts = [shown.description ? make("p", "", shown.description) : ""];
  if (shown.parameters?.length) {
    const rows = shown.parameters.map((parameter) => [
      make("code", "", parameter.name),
      parameter.in,
      make("code", "", ...typeOf(parameter.schema)),
      parameter.description ?? "",
    ]);
    parts.push(make("h3", "", "Parameters"), table(["name", "in", "type", ""], rows));
  }
  for (const content of Object.values(shown.requestBody?.content ?? {})) {
    parts.push(make("h3", "", "Body"), fields(root, content.schema));
  }
  const answers = Object.entries(shown.responses).map(([status, answer]) => [
    make("code", "", status),
    answer.description,
    Object.entries(answer.content ?? {}).flatMap(([mediaType, content]) => [
      make("div", "", make("code", "", mediaType, " ", ...typeOf(content.schema))),
    ]),
  ]);
  parts.push(make("h3", "", "Answers"), table(["status", "", "body"], answers));
  return entry(shown.operationId, title, shown.summary, ...parts);
}

function schemas(root) {
  return Object.entries(root.components.schemas).map(([name, schema]) =>
    entry(`schema-${name}`, make("span", "path", name), schema.description, fields(root, schema)),
  );
}

function message(root, name) {
  const shown = root.components.messages[name];
  return entry(`message-${name}`, make("span", "path", name), shown.summary, fields(root, shown.payload));
}

function request(root, name, shown) {
  const result = root.components.messages[`${name}.result`].payload.properties.result;
  return entry(
    `message-${name}`,
    make("span", "path", name),
    shown.summary,
    fields(root, root.components.messages[name].payload),
    make("h3", "", "Result"),
    fields(root, result),
  );
}

function section(id, title, ...content) {
  const heading = make("h2", "", title);
  heading.id = id;
  return [heading, ...content];
}

function render(openapi, asyncapi) {
  document.getElementById("version").textContent = openapi.info.version;
  const http = Object.entries(openapi.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, shown]) => operation(openapi, path, method, shown)),
  );
  const { events, ...requests } = asyncapi.operations;
  const told = events.messages.map((reference) => message(asyncapi, nameOf(reference.$ref)));
  const merged = { ...asyncapi, components: { schemas: { ...asyncapi.components.schemas, ...openapi.components.schemas } } };
  const content = document.getElementById("content");
  content.replaceChildren(
    ...section("http", "HTTP", ...http),
    ...section("socket", `WebSocket ${asyncapi.channels.socket.address}`, make("p", "", asyncapi.servers.gateway.description)),
    make("h3", "", "What a client sends"),
    ...Object.entries(requests).map(([name, shown]) => request(asyncapi, name, shown)),
    make("h3", "", "What arrives unasked"),
    ...told,
    ...section("schemas", "Schemas", ...schemas(merged)),
  );
  content.removeAttribute("aria-busy");
  openTarget();
}

/** A link to a folded entry unfolds it. */
function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) target.open = true;
  target?.scrollIntoView();
}

async function fetched(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address} answered ${answer.status}`);
  return answer.json();
}

addEventListener("hashchange", openTarget);
try {
  render(...(await Promise.all([fetched("openapi.json"), fetched("asyncapi.json")])));
} catch (error) {
  const text = `The documents can't be shown: ${error.message}. Reload the page.`;
  document.getElementById("content").replaceChildren(make("p", "error", text));
}
