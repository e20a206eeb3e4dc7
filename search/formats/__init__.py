"""Formats of runtimes, one file or folder each, which has a `FORMAT`."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping

from search.formats.base import Format

_FOUND: list[Format] = [
    importlib.import_module(f"{__name__}.{module.name}").FORMAT
    for module in pkgutil.iter_modules(__path__)
    if module.name != "base"
]
FORMATS: Mapping[str, Format] = {form.name: form for form in _FOUND}
"""By the name that a runtime has for what it loads."""


def is_installed(wanted: Format) -> bool:
    """Whether files of a format can be written here."""
    return importlib.util.find_spec(wanted.module) is not None
