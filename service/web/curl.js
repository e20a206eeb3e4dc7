// One curl line for an operation, with values taken from the examples and defaults of its schemas.

const DEPTH = 6;

/** A command that can be pasted into a shell; placeholders are in capitals. */
export function curlExample(api, operation, origin) {
  const path = operation.path.replace(/\{(?:path:)?(\w+)\}/g, (_, name) => name.toUpperCase());
  const query = operation.parameters.filter((one) => one.in === "query" && one.required).map((one) => `${one.name}=${value(one)}`);
  const headers = operation.parameters.filter((one) => one.in === "header" && (one.required || one.name === "Idempotency-Key"));
  const parts = [
    operation.method === "get" ? "curl" : `curl -X ${operation.method.toUpperCase()}`,
    ...(operation.security ? ["-H 'Authorization: Bearer KEY'"] : []),
    ...headers.map((one) => `-H ${quote(`${one.name}: ${one.name === "Idempotency-Key" ? "KEY" : value(one)}`)}`),
    ...body(api, operation.requestBody?.content ?? {}),
    quote(`${origin}${path}${query.length ? `?${query.join("&")}` : ""}`),
  ];
  return parts.length < 3 ? parts.join(" ") : parts.join(" \\\n  ");
}

function body(api, content) {
  const json = content["application/json"];
  if (json) return ["-H 'Content-Type: application/json'", `-d ${quote(JSON.stringify(json.example ?? sample(api, json.schema ?? {}, DEPTH)))}`];
  const form = content["multipart/form-data"];
  if (form) {
    const fields = Object.entries(deref(api, form.schema ?? {}).properties ?? {});
    return fields.map(([name, schema]) => `-F ${quote(`${name}=${isFile(schema) ? "@FILE" : text(sample(api, schema, DEPTH))}`)}`);
  }
  return Object.keys(content).length ? ["--data-binary @FILE"] : [];
}

/** A value that fits a schema, as short as its required fields allow. */
function sample(api, reference, depth) {
  const schema = deref(api, reference);
  for (const known of [schema.example, schema.examples?.[0], schema.const, schema.default, schema.enum?.[0]]) {
    if (known !== undefined && known !== null) return known;
  }
  if (depth === 0) return null;
  const variant = schema.allOf?.[0] ?? (schema.anyOf ?? schema.oneOf)?.find((one) => one.type !== "null");
  if (variant) return sample(api, variant, depth - 1);
  if (schema.properties) return Object.fromEntries((schema.required ?? []).map((name) => [name, sample(api, schema.properties[name] ?? {}, depth - 1)]));
  if (schema.type === "array") return [sample(api, schema.items ?? {}, depth - 1)];
  return { integer: schema.minimum ?? 1, number: schema.minimum ?? 1, boolean: true, object: {} }[schema.type] ?? "TEXT";
}

function deref(api, schema) {
  const name = schema.$ref?.split("/").at(-1);
  return name ? (api.components?.schemas?.[name] ?? {}) : schema;
}

const isFile = (schema) => schema.format === "binary" || schema.contentMediaType !== undefined || schema.contentEncoding === "binary";
const value = (parameter) => parameter.example ?? parameter.schema?.example ?? parameter.schema?.enum?.[0] ?? parameter.name.toUpperCase();
const text = (thing) => (typeof thing === "string" ? thing : JSON.stringify(thing));
const quote = (word) => `'${word.replaceAll("'", "'\\''")}'`;
