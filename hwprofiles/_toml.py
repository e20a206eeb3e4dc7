"""Writes the TOML that profiles need: scalars, lists, tables and lists of tables. The standard library only reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def dumps(fields: Mapping[str, Any]) -> str:
    """``fields`` as TOML; entries that are None are left out, as TOML has no null."""
    return "\n".join(_lines(fields, "")).strip() + "\n"


def _lines(fields: Mapping[str, Any], parent: str) -> Iterator[str]:
    present = {key: value for key, value in fields.items() if value is not None}
    yield from (f"{_key(key)} = {_scalar(value)}" for key, value in present.items() if not _is_table(value))
    for key, value in present.items():
        name = f"{parent}.{_key(key)}" if parent else _key(key)
        if isinstance(value, Mapping):
            yield from ("", f"[{name}]", *_lines(value, name))
        elif _is_table(value):
            for row in value:
                yield from ("", f"[[{name}]]", *_lines(row, name))


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, list | tuple) and len(value) > 0 and isinstance(value[0], Mapping)
    )


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else json.dumps(key)


def _scalar(value: Any) -> str:
    """JSON's scalars are TOML's, but for infinity and for a float without a point."""
    if isinstance(value, float):
        return "inf" if value == float("inf") else repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_scalar(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
