"""Which groups of channels can be cut in the file: tried all at once before the search, and by halves where that fails."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.graph.edit.patch import file_of, patch
from search.judge.proof import RUNTIME_ERRORS, Proof
from search.space.blocks import Variant
from search.space.groups import Group
from search.space.plan import Knobs
from search.space.surgery import mask
from search.space.written import written
from search.wire.errors import SecateurError


def unproved(knobs: Knobs, proof: Proof) -> dict[str, str]:
    """Groups whose cut file does not compute what the masked upload computes, and in words what was found.

    Every group loses half of its units, every other one; the search cuts other numbers of others, and each of its files is
    proved again.
    """
    return _failing(knobs, proof, knobs.groups.prunable)


def _failing(knobs: Knobs, proof: Proof, groups: Sequence[Group]) -> dict[str, str]:
    why = _tried(knobs, proof, groups) if groups else None
    if why is None:
        return {}
    if len(groups) == 1:
        return {groups[0].id: why}
    half = len(groups) // 2
    return {**_failing(knobs, proof, groups[:half]), **_failing(knobs, proof, groups[half:])}


def _tried(knobs: Knobs, proof: Proof, groups: Sequence[Group]) -> str | None:
    """What is wrong with the file in which these groups are cut; None where nothing is."""
    graph = knobs.graph
    keep = {group.id: np.arange(len(group)) % 2 == 0 for group in groups}
    masked = mask(graph.initializers, knobs.groups, keep)
    try:
        mine, _ = written(graph, Variant(graph, knobs.groups), keep, masked)
        twin = patch(graph, graph.with_initializers(masked), {})
        difference = proof.difference(mine.model, twin.model)
        most_bytes = len(file_of(graph))
    except SecateurError as error:
        return error.detail
    except RUNTIME_ERRORS as error:
        return f"ONNX Runtime refuses the cut file ({str(error).splitlines()[0]})"
    if len(mine.model) > most_bytes:
        return (
            f"the cut file would have {len(mine.model)} bytes, the upload has {most_bytes}: operators make its weights"
        )
    if difference <= proof.tolerance:
        return None
    return f"the cut file differs from the masked one by {difference:.1e}, more than {proof.tolerance:.0e}"
