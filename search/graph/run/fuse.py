"""A graph as the fused kernels that a runtime executes: the `Workload` list that the latency model prices.

Fusion follows what ONNX Runtime, LiteRT and TensorRT have in common: activations, norms and one residual addition run
inside the kernel that produces their first input, if nobody else reads what lies between.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from hwprofiles.workload import GRAPH_INPUT, Workload
from search.graph.ir import Array, Graph, Node
from search.graph.ops import Op, of
from search.graph.ops.price import Shapes, height_width, window

_WEIGHTED = frozenset({"conv", "dense"})


def workloads(graph: Graph, shapes: Shapes, static: Mapping[str, Array]) -> list[Workload]:
    """Kernels in execution order, for the shapes given (batch 1).

    Args:
        graph: a normalised graph.
        shapes: value name to shape, from `search.graph.run.execute.shapes`.
        static: values that do not depend on the inputs, from the same call.
    """
    outputs = {info.name for info in graph.outputs}
    private = {value for value, readers in graph.consumers().items() if len(readers) == 1 and value not in outputs}
    kernels: list[Workload] = []
    channels = channel_axes(graph, shapes)
    made_by: dict[str, int] = {info.name: GRAPH_INPUT for info in graph.inputs}
    for node in graph.nodes:
        if all(name in static for name in node.outputs if name):
            continue
        active = [name for name in node.inputs if name and name not in static]
        host = _host(node, active, made_by, kernels, private)
        if host is not None:
            kernels[host] = _absorb(kernels[host], node, active, made_by, host)
            position = host
        elif _is_free(node):
            position = made_by.get(active[0], GRAPH_INPUT) if active else GRAPH_INPUT
        else:
            position = len(kernels)
            kernels.append(_kernel(node, active, made_by, shapes, channels))
        made_by.update({name: position for name in node.outputs if name})
    return kernels


def _is_free(node: Node) -> bool:
    """Views and static values cost nothing; an unknown operator is priced as an element-wise pass."""
    entry = of(node)
    return entry is not None and entry.kind is None


def _host(
    node: Node, active: list[str], made_by: Mapping[str, int], kernels: list[Workload], private: set[str]
) -> int | None:
    """Position of the kernel that a node runs inside, or None. ``private`` values have one reader."""
    entry = of(node)
    if entry is None or entry.kind not in {"elementwise", "norm"}:
        return None
    for value in active:
        position = made_by.get(value, GRAPH_INPUT)
        if position == GRAPH_INPUT or value not in private:
            continue
        others = [made_by[other] for other in active if other != value]
        if _takes_in(kernels[position], position, entry, others):
            return position
    return None


def _takes_in(kernel: Workload, position: int, entry: Op, others: list[int]) -> bool:
    """Whether a kernel runs an operator that reads its output and what the kernels ``others`` made.

    A kernel with weights takes in activations, norms and one addition of something older; a normalisation takes in
    activations; a product takes in a scale; arithmetic takes in what reads nothing but its own result and inputs, as the
    chain of operators that makes up a GELU does.
    """
    match kernel.kind:
        case "conv" | "dense":
            adds = entry.fused == "addition" and "Add" not in kernel.fused and all(other < position for other in others)
            return adds if others else entry.fused in {"activation", "norm", "addition"}
        case "norm":
            return entry.fused == "activation" and not others
        case "matmul":
            return entry.fused == "scale" and not others
        case "elementwise":
            return entry.kind == "elementwise" and set(others) <= {position, *kernel.sources}
        case _:
            return False


def _absorb(kernel: Workload, node: Node, active: list[str], made_by: Mapping[str, int], host: int) -> Workload:
    known = {host, *(kernel.sources if kernel.kind not in _WEIGHTED else ())}
    others = tuple(made_by[value] for value in active if made_by[value] not in known)
    return dataclasses.replace(kernel, fused=(*kernel.fused, node.op), sources=(*kernel.sources, *others))


def _kernel(
    node: Node, active: list[str], made_by: Mapping[str, int], shapes: Shapes, channels: Mapping[str, int]
) -> Workload:
    sources = tuple(made_by.get(value, GRAPH_INPUT) for value in active)
    result = next(name for name in node.outputs if name)
    entry = of(node)
    kind = entry.kind or "elementwise" if entry is not None else "elementwise"
    base = Workload(node.name, kind, 1, 1, sources=sources)
    if entry is not None and entry.price is not None:
        return entry.price(node, base, active, shapes)
    return _other(node, base, active, result, shapes, channels)


def _other(
    node: Node, base: Workload, active: list[str], result: str, shapes: Shapes, channels: Mapping[str, int]
) -> Workload:
    """What moves, scales or sums elements; with its channels where they stand."""
    out = shapes[result]
    value = active[0] if active else result
    first = shapes[value]
    images = _is_spatial(out, channels[result])
    rows = 1 if images else max(1, math.prod(out[:-1]))
    places = max(1, math.prod(first[:-1]) // rows)
    from_images = _is_spatial(first, channels.get(value, -1))
    return dataclasses.replace(
        base,
        c_in=first[1] if from_images else first[-1] if first else 1,
        c_out=out[1] if images else out[-1] if out else 1,
        in_hw=height_width(first)
        if from_images and rows == 1
        else (1, 1)
        if base.kind == "elementwise"
        else (1, places),
        out_hw=height_width(out) if images else (1, 1),
        rows=rows,
        operands=_operands(base.kind, active, shapes, math.prod(out)),
        kernel=window(node.get("kernel_shape", [1, 1])) if base.kind == "pool" else (1, 1),
        stride=window(node.get("strides", [1, 1])) if base.kind == "pool" else (1, 1),
        spatial_axes=len(out) - 2 if base.kind == "pool" else 2,
    )


def _is_spatial(shape: tuple[int, ...], axis: int) -> bool:
    return axis == 1 and len(shape) > 2


def _operands(kind: str, active: list[str], shapes: Shapes, output_elements: int) -> int:
    """Activations read; a broadcast operand of arithmetic is too small to count."""
    if kind != "elementwise":
        return max(1, len(active))
    return max(1, sum(math.prod(shapes[value]) >= output_elements for value in active))


def channel_axes(graph: Graph, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Value to the axis that its channels stand on, 1 or the last (-1), as the operators that made it have it.

    Images and volumes are (N, C, ...); a value of three axes is a signal (N, C, L) behind a convolution and tokens (N, T, C)
    behind a product; a Transpose takes the axis with it, and what works element by element leaves it where it is.
    """
    axes: dict[str, int] = {}
    for node in graph.nodes:
        entry = of(node)
        like = next((name for name in node.inputs if name in axes), "")
        for name in node.outputs:
            rank = len(shapes.get(name, ()))
            axis = 1 if rank > 3 else -1
            if entry is not None and entry.channel_axis is not None:
                axis = entry.channel_axis
            elif node.op == "Transpose" and like and node.get("perm"):
                moved = list(node.get("perm")).index(axes[like] % rank)
                axis = {1: 1, rank - 1: -1}.get(moved, axis)
            elif like and rank == len(shapes[like]) and (entry is None or entry.kind != "dense" or rank > 3):
                axis = axes[like]
            axes[name] = axis
    return axes
