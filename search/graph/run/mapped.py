"""One operator on many chunks at once: its inputs are stacked (K, ...), its outputs too.

The operator itself sees one chunk, as it stands in the file, so a Reshape to a fixed batch or a Squeeze of everything means
what it meant there. Operators that treat what lies along axis 0 one by one get all chunks on that axis instead, which is as fast
as a file with a free batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from search.graph.ir import Node
from search.graph.lazy_jax import is_traced, jax, jnp
from search.graph.ops import of
from search.graph.ops.lower import Value
from search.graph.sampling import joined

Compute = Callable[[Sequence[Value]], tuple[Value, ...]]


def over_chunks(
    node: Node, inputs: Sequence[Value], stacked: Sequence[bool], compute: Compute
) -> tuple[tuple[Value, ...], list[bool]]:
    """Outputs of an operator, and which of them are stacked; the others depend on shapes only and stay numpy.

    Args:
        node: the operator.
        inputs: its operands, None where it has none.
        stacked: which of them are (K, ...); one at least.
        compute: the operator on one chunk.
    """
    if _treats_rows_alone(node, inputs, stacked):
        count = next(value.shape[0] for value, is_stacked in zip(inputs, stacked, strict=True) if is_stacked)
        made = compute([joined(v) if s else v for v, s in zip(inputs, stacked, strict=True)])
        return tuple(v if v is None else v.reshape(count, -1, *v.shape[1:]) for v in made), [True] * len(made)
    aside: list[Any] = []

    def of_one(moving: list[Any]) -> list[Any]:
        rest = iter(moving)
        made = compute([next(rest) if s else v for v, s in zip(inputs, stacked, strict=True)])
        leaves, tree = jax.tree.flatten(tuple(_traced(v) if isinstance(v, list) else v for v in made))
        aside[:] = [tree, [None if is_traced(leaf) else leaf for leaf in leaves]]
        return [leaf for leaf in leaves if is_traced(leaf)]

    found = iter(jax.vmap(of_one)([v for v, s in zip(inputs, stacked, strict=True) if s]))
    tree, constants = aside
    outputs = jax.tree.unflatten(tree, [next(found) if leaf is None else leaf for leaf in constants])
    return outputs, [isinstance(value, list) or is_traced(value) for value in outputs]


def _traced(sequence: list[Any]) -> list[Any]:
    """Every element of a sequence is stacked, or none is."""
    return [jnp.asarray(value) for value in sequence]


def _treats_rows_alone(node: Node, inputs: Sequence[Value], stacked: Sequence[bool]) -> bool:
    """Whether what lies along axis 0 of a chunk does not meet, whatever else the operator does."""
    entry = of(node)
    if entry is None or entry.apart is None or len(node.outputs) > 1:
        return False
    chunks = [v.shape for v, s in zip(inputs, stacked, strict=True) if s and hasattr(v, "shape")]
    if len(chunks) < sum(stacked) or len({(len(shape), *shape[:2]) for shape in chunks}) > 1 or len(chunks[0]) < 2:
        return False
    rank = len(chunks[0]) - 1
    others = [np.shape(v) for v, s in zip(inputs, stacked, strict=True) if not s and v is not None]
    if entry.apart == "elements":
        return all(len(shape) < rank or (len(shape) == rank and shape[0] == 1) for shape in others)
    return rank > 2 and not any(stacked[1:]) and not node.get("training_mode", 0)
