"""Kinds of kernels that a profile's rows did not tell, and what prices them instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from hwprofiles.kernels import Path
from hwprofiles.latency import stand_in
from hwprofiles.registry import list_profiles


def rows() -> Iterator[str]:
    """Lines of a table, markdown; profiles that price by a roofline are left out, as it knows no kinds."""
    yield "| profile | priced as another kind |\n|---|---|"
    for profile in list_profiles():
        if profile.latency.kind == "roofline":
            continue
        own = PATHS_OF.get(profile.latency.kernels, frozenset())
        found = {
            path: stand_in(profile.latency, path) for path in get_args(Path) if path not in own and path != "network"
        }
        named = ", ".join(f"{path} as {other}" for path, other in found.items() if other is not None)
        yield f"| {profile.id} | {named} |"


PATHS_OF = {
    kernels: frozenset({"fallback", "fallback_depthwise", "fallback_pool", "direct", "reorder_in", "reorder_out"})
    for kernels in ("nhwc", "gpu")
}
"""Paths that runtimes of these kernel rules never take."""
