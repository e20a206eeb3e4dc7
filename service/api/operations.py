"""The operation table: routes and the OpenAPI document are made from the same rows, so they cannot disagree."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pydantic
from flask.typing import ResponseReturnValue

from service.api import schemas
from service.api.problems import MEDIA_TYPE as PROBLEM
from service.model_files import MOST_FILES

_REF = "#/components/schemas/{model}"
_ALWAYS = (400, 500, 503)
"""Any operation may answer these: a bad Host header or message, a fault of ours, the database away."""
_ERRORS = {
    400: "The message is malformed",
    401: "An API key is needed",
    404: "Not found",
    405: "The method is not allowed here",
    409: "The state does not allow this",
    410: "No longer kept",
    413: "Too large",
    412: "Not this version of tus",
    415: "Not a media type that is read here",
    416: "The range is outside the file",
    422: "The request is not valid",
    429: "Too many requests, or the quota is used up",
    460: "The bytes do not fit their checksum",
    500: "Internal error",
    503: "A part of the service is away or busy",
    507: "Not enough storage",
}
BINARY = {"type": "string", "minLength": 1, "contentMediaType": "application/octet-stream", "format": "binary"}
BINARIES = {"type": "array", "items": BINARY, "maxItems": MOST_FILES}
JSON = "application/json"
DOCUMENT_PATH = "/openapi.json"
OPEN_PATHS = frozenset({"/livez", "/readyz", DOCUMENT_PATH, "/docs", "/"})
"""What can be asked without a key: whether the service is there, and how it is used."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """A success: the schema of each media type (a type for pydantic, or a plain schema), and its headers."""

    description: str
    content: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    headers: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Operation:
    """One row of the table."""

    method: str
    path: str
    id: str
    summary: str
    view: Callable[..., ResponseReturnValue]
    answers: Mapping[int, Answer]
    errors: Sequence[int] = ()
    body: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    query: type[schemas.Query] = schemas.NoQuery
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Request headers, each with what it does."""
    description: str = ""

    @property
    def needs_key(self) -> bool:
        """Whether it asks for a key where keys are required."""
        return self.path not in OPEN_PATHS

    @property
    def parameters(self) -> list[str]:
        """Names in the path."""
        return [part.split("}")[0] for part in self.path.split("{")[1:]]

    @property
    def rule(self) -> str:
        """The path as Flask writes it. Only an artifact's name may contain slashes."""
        return self.path.replace("{name}", "<path:name>").replace("{", "<").replace("}", ">")


def openapi(
    operations: Sequence[Operation],
    version: str,
    profile_ids: Sequence[str],
    *,
    root: str,
    secured: bool,
    webhooks: bool,
) -> dict[str, Any]:
    """The OpenAPI 3.1 document.

    Args:
        operations: the table.
        version: of the service.
        profile_ids: the targets there are now; the document lists them.
        root: where the service is: `/`, or the prefix that a proxy puts before its paths.
        secured: whether a request needs an API key.
        webhooks: whether a job may name a URL.
    """
    components = _Components()
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = _describe(operation, components)
        if secured and operation.needs_key:
            _secure(described, components)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    known = components.schemas()
    _name_targets(known, profile_ids)
    if not webhooks:
        for name in ("JobCreate", "JobOptions"):
            del known[name]["properties"]["webhook_url"]
    _allow_one_objective(known["Objective"])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Secateur",
            "version": version,
            "summary": "Prunes a trained network until it fits the hardware it will run on.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": root}],
        "paths": paths,
        "components": {"schemas": known, **({"securitySchemes": {"key": _BEARER}} if secured else {})},
    }


_BEARER = {"type": "http", "scheme": "bearer", "description": "An API key; `secateur keys create` makes one"}


def _secure(described: dict[str, Any], components: _Components) -> None:
    described["security"] = [{"key": []}]
    for status in (401, 429):
        described["responses"][str(status)] = _problem(status, components)


def _problem(status: int, components: _Components) -> dict[str, Any]:
    schema = components.schema(schemas.Problem, "serialization")
    return {"description": _ERRORS[status], "content": {PROBLEM: {"schema": schema}}}


class _Components:
    """Collects the types that the table names; gives each a reference."""

    def __init__(self) -> None:
        self._definitions: dict[str, Any] = {}

    def schema(self, kind: Any, mode: pydantic.json_schema.JsonSchemaMode) -> dict[str, Any]:
        if isinstance(kind, dict):
            properties = {name: self.schema(value, mode) for name, value in kind.get("properties", {}).items()}
            return {**kind, "properties": properties} if properties else kind
        schema = pydantic.TypeAdapter(kind).json_schema(ref_template=_REF, mode=mode)
        self._definitions |= schema.pop("$defs", {})
        if "title" not in schema:
            return schema
        self._definitions[schema["title"]] = schema
        return {"$ref": _REF.format(model=schema["title"])}

    def schemas(self) -> dict[str, Any]:
        return dict(sorted(self._definitions.items()))


def _describe(operation: Operation, components: _Components) -> dict[str, Any]:
    answers: dict[str, Any] = {
        str(status): _answer(answer, components) for status, answer in sorted(operation.answers.items())
    }
    for status in sorted(
        {
            *(*_ALWAYS, *operation.errors),
            *([415] if operation.body else []),  # compressed, or of another type
            *([422] if operation.query.model_fields or operation.body else []),
        }
    ):
        answers[str(status)] = _problem(status, components)
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "description": operation.description or operation.summary,
        "tags": [operation.path.split("/")[2] if operation.path.startswith("/v1/") else "service"],
        "parameters": _parameters(operation),
        "responses": answers,
    }
    if operation.body:
        content = {media: _body(kind, components) for media, kind in operation.body.items()}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _answer(answer: Answer, components: _Components) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.description}
    if answer.content:
        described["content"] = {
            media: {"schema": components.schema(kind, "serialization")} for media, kind in answer.content.items()
        }
    if answer.headers:
        described["headers"] = {name: {"schema": {"type": "string"}} for name in answer.headers}
    return described


def _body(kind: Any, components: _Components) -> dict[str, Any]:
    described = {"schema": components.schema(kind, "validation")}
    if isinstance(kind, dict) and "spec" in kind.get("properties", {}):
        described["encoding"] = {"spec": {"contentType": JSON}}
    return described


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in operation.parameters
    ]
    fields = operation.query.model_json_schema(ref_template=_REF)
    definitions = fields.get("$defs", {})
    query = [
        {
            "name": name,
            "in": "query",
            "required": name in fields.get("required", ()),
            "schema": _without_null(schema, definitions),
        }
        for name, schema in fields.get("properties", {}).items()
    ]
    headers = [
        {"name": name, "in": "header", "required": name in _REQUIRED, "description": text, "schema": _HEADERS[name]}
        for name, text in operation.headers.items()
    ]
    return path + query + headers


_TEXT = {"type": "string"}
_HEADERS: dict[str, dict[str, Any]] = {
    "Last-Event-ID": {"type": "string", "pattern": "^[0-9]{1,9}$"},
    "If-None-Match": _TEXT,
    "Range": _TEXT,
    "Tus-Resumable": {"type": "string", "enum": ["1.0.0"]},
    "Upload-Length": {"type": "string", "pattern": "^[1-9][0-9]{0,8}$"},
    "Upload-Offset": {"type": "string", "pattern": "^(0|[1-9][0-9]{0,8})$"},
    "Upload-Metadata": {
        "type": "string",
        "pattern": "^purpose (bW9kZWw=|bW9kZWxfZGF0YQ==|ZGF0YXNldA==)(,filename [A-Za-z0-9+/]{4,80})?$",
    },
}
_REQUIRED = frozenset({"Tus-Resumable", "Upload-Length", "Upload-Offset", "Upload-Metadata"})


def _without_null(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A query parameter is absent or text; it cannot be null."""
    if "anyOf" in schema:
        schema = next(option for option in schema["anyOf"] if option.get("type") != "null")
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[1]]
    return {key: value for key, value in schema.items() if key not in {"title", "description"}}


def _name_targets(definitions: dict[str, Any], profile_ids: Sequence[str]) -> None:
    for name in ("JobCreate", "JobOptions", "InspectCreate"):
        definitions[name]["properties"]["profiles"]["items"] = {"type": "string", "enum": list(profile_ids)}
    definitions["ProfileCreate"]["properties"]["like"] = {"enum": [*profile_ids, None]}


def _allow_one_objective(objective: dict[str, Any]) -> None:
    """At most one field is set, which the types alone cannot say: one closed alternative for each."""
    fields = objective.pop("properties")
    nothing = {name: {"type": "null"} for name in fields}
    objective["anyOf"] = [
        {"type": "object", "properties": {**nothing, name: schema}, "additionalProperties": False}
        for name, schema in fields.items()
    ]
    del objective["additionalProperties"]
