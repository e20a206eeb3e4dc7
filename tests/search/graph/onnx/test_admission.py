"""Hostile files are refused with a typed error before anything is allocated."""

from __future__ import annotations

import resource

import numpy as np
import pytest

from search.graph.ir import Node
from search.graph.onnx import read
from search.graph.ops import growth
from search.graph.run import execute
from search.wire.errors import SecateurError
from tests.search.graph.hostile import HOSTILE


def admit(data: bytes) -> None:
    """What a job does with an upload before it computes anything: read it, find its shapes."""
    graph = read.load(data)
    sizes = {i.name: tuple(s if isinstance(s, int) else 1 for s in i.shape) for i in graph.inputs}
    execute.shapes(graph, sizes)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused(name: str) -> None:
    """A typed error, and the process has not grown by more than 512 MiB."""
    data = HOSTILE[name]()
    assert len(data) < 32_768
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SecateurError) as caught:
        admit(data)
    assert caught.value.type in ("invalid-model", "resource-limit", "unsupported-operator", "external-data-refused")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 512 * 1024


@pytest.mark.parametrize(
    ("op", "shapes", "expected"),
    [
        ("Add", [(5, 1), (1, 7)], 35),
        ("MatMul", [(3, 5, 2), (2, 7)], 105),
        ("Concat", [(5,), (7,)], 12),
        ("Relu", [(4, 4)], 16),
    ],
)
def test_elements_by_hand(op: str, shapes: list[tuple[int, ...]], expected: int) -> None:
    """The bound is the output's size for operators that make more than they read."""
    node = Node("n", op, tuple("ab"), ("c",))
    assert growth.output_elements(node, [np.zeros(shape) for shape in shapes]) == expected
