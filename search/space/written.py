"""From what is left of a network to the file that is written: the upload with edits."""

from __future__ import annotations

from collections.abc import Mapping

from search.graph.edit.patch import Patched, patch
from search.graph.ir import Array, Graph
from search.space.blocks import Variant
from search.space.groups import Keep
from search.space.surgery import cut, kept_positions


def written(dense: Graph, variant: Variant, keep: Keep, params: Mapping[str, Array]) -> tuple[Patched, Graph]:
    """A variant without the units that go, as the upload patched, and as a graph.

    Args:
        dense: as it was derived from the upload.
        variant: of it.
        keep: units of the variant that stay.
        params: initializers that differ from the variant's, masked.
    """
    smaller = cut(variant.graph.with_initializers(params), variant.groups, keep)
    return patch(dense, smaller, kept_positions(variant.groups, keep)), smaller
