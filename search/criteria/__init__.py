"""Importance criteria, one file each. To add one: its file, its name in `search.wire.request`, its test.

The file has the name of the criterion, and in it a function of that name, a `Criterion`.
"""

from __future__ import annotations

import importlib
from typing import get_args

from search.criteria.base import Criterion
from search.wire.request import CriterionName

AUTO = "auto"
"""The name of a race of several."""
CRITERIA: dict[str, Criterion] = {
    name: getattr(importlib.import_module(f"search.criteria.{name}"), name)
    for name in get_args(CriterionName)
    if name != AUTO
}
