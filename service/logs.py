"""Logs that can be joined: every line of web, worker and reconciler carries the request or job it is about; no secrets."""

from __future__ import annotations

import contextlib
import contextvars
import datetime as dt
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

_context: contextvars.ContextVar[dict[str, Any]] = contextvars.ContextVar("log_context")
_SECRETS = (
    (re.compile(r"(sk_[0-9a-f]{12})_[A-Za-z0-9_-]{20,}"), r"\1_***"),  # API keys: the shown part stays
    (re.compile(r"whsec_[A-Za-z0-9+/=]+"), "whsec_***"),
    (re.compile(r"(\w+://[^:/@\s]*):[^@/\s]+@"), r"\1:***@"),  # passwords in URLs
)
audit = logging.getLogger("secateur.audit")
"""Who did what to which thing: submissions, cancellations, deletions, keys, refusals of keys."""


def bind(**fields: Any) -> None:
    """Have the lines of this request or job carry `fields`, from here on."""
    _context.set({**_context.get({}), **fields})


@contextlib.contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Have the lines within carry `fields`."""
    token = _context.set({**_context.get({}), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def configure(log_format: str, level: int = logging.WARNING) -> None:
    """Send every log line to stderr as ``text`` or ``json``; audit lines always, others from `level` on."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(level)
    audit.setLevel(logging.INFO)


def redact(text: str) -> str:
    """`text` without API keys, webhook secrets and passwords."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


class JsonFormatter(logging.Formatter):
    """One JSON object a line; line breaks in a message cannot begin a line of their own."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "at": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_context.get({}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return redact(json.dumps(line, default=str))


class TextFormatter(logging.Formatter):
    """A line for people, with the same fields."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        fields = " ".join(f"{name}={value}" for name, value in _context.get({}).items())
        message = super().format(record)
        if not record.exc_info:
            message = message.replace("\n", "\\n").replace("\r", "\\r")  # nobody writes lines into our log
        return redact(f"{message} {fields}".rstrip())
