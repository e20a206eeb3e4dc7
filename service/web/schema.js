// A JSON schema (2020-12, as OpenAPI 3.1 has it) as nested lists. Named schemas are links, so recursion ends.

import { h } from "./dom.js";

/** Pairs of keywords that bound something, and what they bound. */
const BOUNDS = [
  ["minimum", "maximum", ""], ["exclusiveMinimum", "exclusiveMaximum", "exclusive"],
  ["minLength", "maxLength", "characters"], ["minItems", "maxItems", "items"],
];

/** The name in a reference such as #/components/schemas/Job, or null. */
export const refName = (schema) => schema?.$ref?.split("/").at(-1) ?? null;

/** A schema as elements. */
export function schemaView(schema) {
  const name = refName(schema);
  if (name) return h("a", { href: `#schema-${name}` }, name);
  const variants = schema.anyOf ?? schema.oneOf;
  if (variants) return h("span", {}, joined(variants.map(schemaView), " or "), limits(schema), description(schema));
  if (schema.allOf) return h("span", {}, joined(schema.allOf.map(schemaView), " and "), limits(schema), description(schema));
  if (schema.type === "array") return h("span", {}, "list of ", schemaView(schema.items ?? {}), limits(schema), description(schema));
  if (schema.properties) return objectView(schema);
  return h("span", {}, typeName(schema), limits(schema), description(schema));
}

function objectView(schema) {
  const required = new Set(schema.required ?? []);
  return h("div", {}, description(schema),
    h("ul", { class: "schema" }, Object.entries(schema.properties).map(([name, property]) =>
      h("li", {}, h("code", {}, h("strong", {}, name), required.has(name) ? "" : "?"), " ", schemaView(property)))));
}

function typeName(schema) {
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (Array.isArray(schema.type)) return schema.type.join(" or ");
  if (schema.additionalProperties && typeof schema.additionalProperties === "object") {
    return h("span", {}, "map of ", schemaView(schema.additionalProperties));
  }
  return schema.type ?? "any value";
}

function limits(schema) {
  const words = BOUNDS.map(([low, high, unit]) => bound(schema[low], schema[high], unit));
  for (const key of ["format", "pattern", "default"]) {
    if (schema[key] !== undefined && schema[key] !== null) words.push(`${key} ${plain(schema[key])}`);
  }
  const text = words.filter(Boolean).join(", ");
  return text ? h("span", { class: "small" }, ` (${text})`) : null;
}

function bound(low, high, unit) {
  const range = low !== undefined && high !== undefined ? `${low} to ${high}` : low !== undefined ? `from ${low}` : high !== undefined ? `up to ${high}` : "";
  return range && `${range} ${unit}`.trim();
}

const plain = (value) => (typeof value === "string" ? value : JSON.stringify(value));

/** Descriptions come from docstrings, where backticks mark code. */
export const prose = (text) => text.split(/`{1,2}/).map((part, index) => (index % 2 ? h("code", {}, part) : part));

const description = (schema) => (schema.description ? h("span", { class: "hint" }, " ", prose(schema.description)) : null);

const joined = (elements, word) => elements.flatMap((element, index) => (index ? [word, element] : [element]));
