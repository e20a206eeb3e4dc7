"""The law of surgery, checked in ONNX Runtime: the cut file computes what the masked file computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from search.graph.ir import Graph
from search.graph.onnx import read, write
from search.space import groups, surgery
from tests.search.graph.nets import images, relative_error, run_ort

Array = np.ndarray[Any, Any]


def couple(graph: Graph) -> groups.Groups:
    """Groups at batch 1; other free dimensions are taken as 8."""
    shapes = {
        info.name: tuple(size if isinstance(size, int) else 8 if i else 1 for i, size in enumerate(info.shape))
        for info in graph.inputs
    }
    return groups.find_groups(graph, shapes)


def keep_some(found: groups.Groups, *, share: float = 0.6, seed: int = 0) -> dict[str, Array]:
    """A random subset of every group, never empty."""
    random = np.random.default_rng(seed)
    keep = {}
    for group in found.prunable:
        chosen = random.random(len(group)) < share
        chosen[random.integers(len(group))] = True
        keep[group.id] = chosen
    return keep


def cut_against_masked(
    data: bytes, feeds: Mapping[str, Array] | None = None, **choice: Any
) -> tuple[bytes, float, groups.Groups]:
    """The cut file, its relative error to the masked file in ONNX Runtime, and the groups."""
    graph = read.load(data)
    found = couple(graph)
    keep = keep_some(found, **choice)
    masked = graph.with_initializers(surgery.mask(graph.initializers, found, keep))
    cut = write.export(surgery.cut(graph, found, keep))
    if feeds is None:
        feeds = {
            info.name: images(*(size if isinstance(size, int) else 8 if i else 2 for i, size in enumerate(info.shape)))
            for info in graph.inputs
        }
    return cut, relative_error(run_ort(cut, feeds), run_ort(write.export(masked), feeds)), found
