"""What Schemathesis must be told: what tus sends, and which of its own bodies are not what it takes them for."""

from __future__ import annotations

from typing import Any

import jsonschema
import schemathesis
from schemathesis import GenerationMode
from schemathesis.core.parameters import ParameterLocation

FORM = "multipart/form-data"
schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """A part of one byte: how long an upload was announced to be is nothing that a schema can say."""
    return b"m" if context.operation.method.upper() == "PATCH" else body


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case) -> bool:
    """Leave out bodies that are called valid or invalid and are not.

    Two objectives come in a form that is called valid, and what is wrong with an invalid one may be nothing on the wire.
    Another implementation of JSON Schema decides here, about what is sent.
    """
    body = case.meta.components.get(ParameterLocation.BODY) if case.meta is not None else None
    if body is None:
        return True
    if case.operation.method.upper() == "PATCH":  # `map_body` has mended it
        return body.mode is not GenerationMode.NEGATIVE
    if case.media_type != FORM:
        return True
    described = context.operation.schema.raw_schema
    form = described["paths"][case.operation.path][case.operation.method.lower()]["requestBody"]["content"][FORM]
    schema = {**form["schema"], "components": described["components"]}
    fits = jsonschema.Draft202012Validator(schema).is_valid(_sent(case.body))
    return fits is (body.mode is GenerationMode.POSITIVE)


def _sent(body: Any) -> Any:
    """A form as it arrives: files are strings in a schema, and an empty list is no part at all."""
    if not isinstance(body, dict):
        return body
    return {name: str(value) if isinstance(value, bytes) else value for name, value in body.items() if value != []}
