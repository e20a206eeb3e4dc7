"""The head of a file, which ONNX Runtime runs once a data set: from the file's inputs to those of our graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from search.graph.ir import Graph
from search.graph.ops.compute import blaming
from search.graph.run.carried import run
from search.graph.run.execute import batches

SAMPLES_AT_ONCE = 128


def enter(graph: Graph, feeds: Mapping[str, Any], *, batch: int = SAMPLES_AT_ONCE) -> dict[str, Any]:
    """Inputs of a graph for those of its file: as they are, or what the head makes of them, so many samples at a time.

    Raises:
        UnsupportedOperator: ONNX Runtime fails on the head.
        ResourceLimit: it takes too long; names the node of the file.
    """
    head = None if graph.frame is None else graph.frame.head
    if graph.frame is None or head is None:
        return {info.name: feeds[info.name] for info in graph.inputs}
    fixed = graph.frame.inputs[0].shape[:1]
    size = int(fixed[0]) if fixed and isinstance(fixed[0], int) else batch
    count = len(next(iter(feeds.values())))
    with blaming(head, ()):
        parts = [
            run(head, [{**graph.frame.constants, **part}[n] for n in head.inputs]) for part in batches(feeds, size)
        ]
    made = {name: np.concatenate([part[i] for part in parts])[:count] for i, name in enumerate(head.outputs)}
    return {info.name: made[info.name] if info.name in made else feeds[info.name] for info in graph.inputs}
