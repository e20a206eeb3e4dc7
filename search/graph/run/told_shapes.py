"""Shapes as ONNX's own inference tells them: where every operator is one of which that is enough, nothing need be traced."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx.shape_inference

from search.graph.ir import Array, Graph, Node, TensorInfo
from search.graph.ops import growth, of
from search.graph.proto import from_graph

Shape = tuple[int, ...]
NAMES_SIZES = 64
"""Constants of so many elements may name sizes, and are shown to the inference; of others only the shape is."""


@dataclasses.dataclass(frozen=True)
class _Told:
    """Stands for a value of which the shape is known."""

    shape: Shape


def told_shapes(
    graph: Graph, feeds: Mapping[str, Shape], compute: Callable[[Node, Sequence[Any], int], Sequence[Any]]
) -> tuple[dict[str, Shape], dict[str, Array]] | None:
    """Shape of every value, and the static ones; None where one is not told, or something may not be computed as told.

    Args:
        graph: whose values are asked for.
        feeds: shapes of its inputs.
        compute: an operator on constants, for an operator set.

    Raises:
        ResourceLimit: a value would be too large; names the node.
    """
    known = set(graph.initializers)
    for node in graph.nodes:
        if known.issuperset(filter(None, node.inputs)):
            known.update(node.outputs)
        elif not _is_told(node, graph):
            return None
    small = {name: value for name, value in graph.initializers.items() if value.size <= NAMES_SIZES}
    large = (v for v in graph.initializers.items() if v[0] not in small)
    given = [dataclasses.replace(info, shape=feeds[info.name]) for info in graph.inputs]
    weights = [TensorInfo(name, value.dtype, value.shape) for name, value in large]
    light = from_graph(graph.replace(inputs=(*given, *weights), initializers=small))
    try:
        inferred = onnx.shape_inference.infer_shapes(light, strict_mode=True).graph  # propagated data have no limit
    except onnx.shape_inference.InferenceError:
        return None  # whoever computes it will say what contradicts what
    found: dict[str, Shape] = {info.name: tuple(feeds[info.name]) for info in given}
    for value in (*inferred.value_info, *inferred.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            found[value.name] = tuple(dim.dim_value for dim in dims)
    static = dict(graph.initializers)
    found |= {name: tuple(value.shape) for name, value in static.items()}
    for node in graph.nodes:
        if known.issuperset(node.outputs):
            made = compute(node, [static[name] if name else None for name in node.inputs], graph.opset)
            static.update({name: value for name, value in zip(node.outputs, made, strict=False) if name})
            found |= {name: tuple(static[name].shape) for name in node.outputs if name}
        elif node.outputs[0] not in found or _contradicts(node, found):
            return None
        else:
            inputs = [static.get(name, _Told(found[name])) if name else None for name in node.inputs]
            growth.check_cost(node, inputs, constant=False)
    return found, static


def _contradicts(node: Node, shapes: Mapping[str, Shape]) -> bool:
    """Whether operands do not fit together in a way that the inference does not look at."""
    entry = of(node)
    if entry is None or entry.fits is None:
        return False
    return not entry.fits(node, [shapes[name] for name in node.inputs if name], shapes[node.outputs[0]])


def _is_told(node: Node, graph: Graph) -> bool:
    """Whether the shape of a node's one output is told."""
    entry = of(node)
    if entry is None or len(node.outputs) > 1:
        return False
    if any(node.input(i) and node.input(i) not in graph.initializers for i in entry.static):
        return False
    if node.get("allowzero", 0) and 0 in graph.initializers[node.inputs[1]]:
        return False
    return entry.told if isinstance(entry.told, bool) else entry.told(node)
