/** Describes JSON schemas: their types in a few words, and their fields in a table. */

import { createTable, el, rich } from "./dom.js";

/** Resolves a schema's `$ref`, if it has one. */
export function resolveRef(root, schema) {
  if (!schema?.$ref) return schema;
  return schema.$ref.slice(2).split("/").reduce((node, key) => node?.[key.replaceAll("~1", "/")], root);
}

export function nameOf(reference) {
  return reference.slice(reference.lastIndexOf("/") + 1);
}

function schemaLink(name) {
  const link = el("a", "", name);
  link.href = `#schema-${name}`;
  return link;
}

/** Describes a schema in a few words. Names of schemas are links. */
export function describeType(schema) {
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

/** Creates the table of an object's fields, or a paragraph with the type of anything else. */
export function createFieldTable(root, reference) {
  const schema = resolveRef(root, reference);
  if (!schema?.properties) return el("p", "", ...describeType(schema));
  const required = new Set(schema.required);
  const rows = Object.entries(schema.properties).map(([name, inner]) => {
    const standard = inner.default == null ? "" : ` Default \`${JSON.stringify(inner.default)}\`.`;
    const text = `${required.has(name) ? "Required. " : ""}${inner.description ?? ""}${/default/i.test(inner.description ?? "") ? "" : standard}`;
    return [el("code", "", name), el("code", "", ...describeType(inner)), rich(text)];
  });
  return createTable(["field", "type", "description"], rows);
}
