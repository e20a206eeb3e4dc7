"""Reading requests strictly: JSON by its schema, `true` is no number, unknown fields and parameters are refused."""

from __future__ import annotations

import functools
import json
import re
from typing import Any, TypeVar, cast

import flask
import pydantic
from werkzeug.exceptions import UnsupportedMediaType

from service.api.schemas import Query
from service.errors import BadRequest

T = TypeVar("T")
Q = TypeVar("Q", bound=Query)
_MOST_TOLD = 3
"""Faults in one sentence; all of them are in `errors`."""
_IDEMPOTENCY_KEY = re.compile(r"[A-Za-z0-9._:-]{1,255}")


def json_body(kind: type[T], *, or_form: bool = False) -> T:
    """The request's JSON body as `kind`; `or_form` says that the operation takes a form as well.

    Raises:
        BadRequest: it does not fit; `errors` names the fields.
        UnsupportedMediaType: it is not JSON by its Content-Type.
    """
    if flask.request.mimetype != "application/json":
        found = flask.request.mimetype or "no Content-Type"
        allowed = "application/json or multipart/form-data" if or_form else "application/json"
        raise UnsupportedMediaType(f"found {found}; send {allowed}")
    return from_json(kind, flask.request.get_data())


def from_json(kind: type[T], text: bytes | str, where: str = "the body") -> T:
    """Parse JSON text; `where` it stood, for messages.

    Raises:
        BadRequest: it does not fit; `errors` names the fields.
    """
    try:
        parsed: T = _adapter(cast("Any", kind)).validate_json(_normal(text, where))
    except pydantic.ValidationError as error:
        raise _refused(where, error) from error
    return parsed


def query(kind: type[Q]) -> Q:
    """The query string as `kind`.

    Raises:
        BadRequest: a parameter that is unknown, given twice or does not fit.
    """
    given = flask.request.args.to_dict(flat=False)
    twice = [name for name, values in given.items() if len(values) > 1]
    if twice:
        raise BadRequest(f"the parameter {twice[0]!r} is given {len(given[twice[0]])} times; give it once")
    try:
        return kind.model_validate({name: values[0] for name, values in given.items()})
    except pydantic.ValidationError as error:
        raise _refused("the query", error) from error


def idempotency_key() -> str | None:
    """The Idempotency-Key header.

    Raises:
        BadRequest: it is no key.
    """
    key = flask.request.headers.get("Idempotency-Key")
    if key is not None and _IDEMPOTENCY_KEY.fullmatch(key) is None:
        raise BadRequest("Idempotency-Key is not 1 to 255 of A-Z a-z 0-9 . _ : -; a UUID is a good key")
    return key


def _normal(text: bytes | str, where: str) -> str:
    """The same JSON with 3.0 written as 3: for JSON they are one number, for the strict parser they are not.

    Raises:
        BadRequest: it is not JSON in UTF-8, the one encoding of RFC 8259; Python would guess others.
    """
    try:
        text = text if isinstance(text, str) else text.decode("utf-8")
        return json.dumps(json.loads(text, parse_float=_number, parse_constant=_no_number))
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{where} is not JSON in UTF-8: {error}") from error


def _number(text: str) -> float | int:
    value = float(text)
    return int(value) if value.is_integer() else value


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not a number of JSON")


@functools.cache
def _adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(kind)


def _refused(where: str, error: pydantic.ValidationError) -> BadRequest:
    faults: list[dict[str, Any]] = [
        {"field": ".".join(str(part) for part in fault["loc"]), "message": _message(fault)}
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    told = [f"`{fault['field']}`: {fault['message']}" if fault["field"] else fault["message"] for fault in faults]
    more = f"; and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
    return BadRequest(f"{where} does not fit: {'; '.join(told[:_MOST_TOLD])}{more}", errors=faults)


def _message(fault: Any) -> str:
    """Pydantic's words, where they are for users of an interface and not for callers of a function."""
    if fault["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
        return "there is no such field here"
    return str(fault["msg"]).removeprefix("Value error, ")
