// Turns /openapi.json into a page: operations with parameters, bodies, answers and a curl line, then the named schemas.

import { Problem, request } from "./api.js";
import { byId, h, showProblem } from "./dom.js";
import { curlExample } from "./curl.js";
import { prose, refName, schemaView } from "./schema.js";

const METHODS = ["get", "put", "post", "patch", "delete", "head", "options"];

async function start() {
  const api = await request("openapi.json");
  const operations = operationsOf(api);
  byId("title").textContent = `${api.info.title} ${api.info.version}`;
  byId("lead").textContent = api.info.description ?? api.info.summary ?? "";
  byId("contents").replaceChildren(...contents(api, operations));
  byId("operations").replaceChildren(...operations.map((operation) => operationView(api, operation)), ...schemaSections(api));
  // The browser looked for the address's target before it was there.
  if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

function operationsOf(api) {
  const underVersion = ([path]) => Number(!path.startsWith("/v1/"));
  const paths = Object.entries(api.paths).sort((a, b) => underVersion(a) - underVersion(b));
  return paths.flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => {
      const operation = item[method];
      const parameters = [...(item.parameters ?? []), ...(operation.parameters ?? [])].map((one) => resolve(api, one));
      return { ...operation, method, path, parameters, id: operation.operationId ?? `${method}-${path}` };
    }));
}

/** What a reference stands for; the thing itself where it is none. */
function resolve(api, thing) {
  if (!thing?.$ref) return thing;
  return thing.$ref.slice(2).split("/").reduce((node, key) => node[key.replaceAll("~1", "/").replaceAll("~0", "~")], api);
}

function contents(api, operations) {
  const names = Object.keys(api.components?.schemas ?? {});
  return [
    h("ul", {}, operations.map(({ method, path, id }) => h("li", {}, h("a", { href: `#${id}` }, h("code", {}, `${method.toUpperCase()} ${path}`))))),
    names.length ? h("ul", { "aria-label": "Schemas" }, names.map((name) => h("li", {}, h("a", { href: `#schema-${name}` }, name)))) : "",
  ];
}

function operationView(api, operation) {
  return h("article", { class: "panel operation", id: operation.id, "aria-label": `${operation.method.toUpperCase()} ${operation.path}` },
    h("h2", { class: "route" }, h("span", { class: `method ${operation.method}` }, operation.method.toUpperCase()), operation.path),
    h("p", {}, prose([operation.summary, operation.description].filter(Boolean).join(". ").replaceAll("..", "."))),
    parameterTable(operation.parameters),
    bodyView(resolve(api, operation.requestBody)),
    responseTable(api, operation.responses),
    h("div", {}, h("h4", {}, "Example"), h("pre", { tabindex: "0" }, curlExample(api, operation, new URL(".", location).href.slice(0, -1)))));
}

function parameterTable(parameters) {
  if (parameters.length === 0) return null;
  return block("Parameters", table(["Name", "In", "Type", "Meaning"], parameters.map((parameter) => [
    h("code", {}, parameter.name, parameter.required ? "" : "?"),
    parameter.in,
    schemaView(parameter.schema ?? {}),
    parameter.description ?? parameter.schema?.description ?? "",
  ])));
}

function bodyView(body) {
  if (!body) return null;
  return block("Body", ...Object.entries(body.content ?? {}).map(([type, media]) =>
    h("div", {}, h("p", { class: "small" }, h("code", {}, type), body.required ? "" : ", optional"), schemaView(media.schema ?? {}))));
}

function responseTable(api, responses) {
  return block("Answers", table(["Status", "Meaning", "Body"], Object.entries(responses ?? {}).map(([status, reference]) => {
    const response = resolve(api, reference);
    const headers = Object.keys(response.headers ?? {});
    return [
      h("code", {}, status),
      h("div", {}, response.description, headers.length ? h("p", { class: "small" }, `Headers: ${headers.join(", ")}`) : null),
      Object.entries(response.content ?? {}).map(([type, media]) => h("div", {}, h("code", {}, type), " ", refName(media.schema) ? schemaView(media.schema) : null)),
    ];
  })));
}

function schemaSections(api) {
  return Object.entries(api.components?.schemas ?? {}).map(([name, schema]) =>
    h("article", { class: "panel operation", id: `schema-${name}` }, h("h2", {}, name), schemaView(schema)));
}

function block(title, ...children) {
  return h("div", {}, h("h4", {}, title), children);
}

function table(heads, rows) {
  return h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell) => h("td", {}, cell)))))));
}

start().catch((error) => showProblem(error instanceof Problem ? error.fields : { title: "The page has a fault", detail: String(error) }));
