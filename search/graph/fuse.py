"""A graph as the fused kernels that a runtime executes: the `Workload` list that the latency model prices.

Fusion follows what ONNX Runtime, LiteRT and TensorRT have in common: activations, norms and one residual addition run
inside the kernel that produces their first input, if nobody else reads what lies between.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from hwprofiles.workload import GRAPH_INPUT, Workload
from search.graph.ir import Array, Graph, Node
from search.graph.ops import OPS

_WEIGHTED = frozenset({"conv", "dense"})
_SCALES = frozenset({"Mul", "Div"})
Shapes = Mapping[str, tuple[int, ...]]


def workloads(graph: Graph, shapes: Shapes, static: Mapping[str, Array]) -> list[Workload]:
    """Kernels in execution order, for the shapes given (batch 1).

    Args:
        graph: a normalised graph.
        shapes: value name to shape, from `search.graph.execute.shapes`.
        static: values that do not depend on the inputs, from the same call.
    """
    outputs = {info.name for info in graph.outputs}
    private = {value for value, readers in graph.consumers().items() if len(readers) == 1 and value not in outputs}
    kernels: list[Workload] = []
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
            kernels.append(_kernel(node, active, made_by, shapes))
        made_by.update({name: position for name in node.outputs if name})
    return kernels


def _is_free(node: Node) -> bool:
    """Views and static values cost nothing; an unknown operator is priced as an element-wise pass."""
    return node.op in OPS and OPS[node.op].kind is None


def _host(
    node: Node, active: list[str], made_by: Mapping[str, int], kernels: list[Workload], private: set[str]
) -> int | None:
    """Position of the kernel that a node runs inside, or None. ``private`` values have one reader."""
    if node.op not in OPS or OPS[node.op].kind not in {"elementwise", "norm"}:
        return None
    for value in active:
        position = made_by.get(value, GRAPH_INPUT)
        if position == GRAPH_INPUT or value not in private:
            continue
        others = [made_by[other] for other in active if other != value]
        if _takes_in(kernels[position], position, node, others):
            return position
    return None


def _takes_in(kernel: Workload, position: int, node: Node, others: list[int]) -> bool:
    """Whether a kernel runs a node that reads its output and what the kernels ``others`` made.

    A kernel with weights takes in activations, norms and one addition of something older; a normalisation takes in
    activations; a product takes in a scale; arithmetic takes in what reads nothing but its own result and inputs, as the
    chain of operators that makes up a GELU does.
    """
    fusible = OPS[node.op].fusible
    match kernel.kind:
        case "conv" | "dense":
            adds = node.op == "Add" and "Add" not in kernel.fused and all(other < position for other in others)
            return fusible and (not others or adds)
        case "norm":
            return fusible and not others and node.op not in {"Add", "BatchNormalization"}
        case "matmul":
            return node.op in _SCALES and not others
        case "elementwise":
            return OPS[node.op].kind == "elementwise" and set(others) <= {position, *kernel.sources}
        case _:
            return False


def _absorb(kernel: Workload, node: Node, active: list[str], made_by: Mapping[str, int], host: int) -> Workload:
    known = {host, *(kernel.sources if kernel.kind not in _WEIGHTED else ())}
    others = tuple(made_by[value] for value in active if made_by[value] not in known)
    return dataclasses.replace(kernel, fused=(*kernel.fused, node.op), sources=(*kernel.sources, *others))


def _hw(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of an activation; a 1-D signal has height 1, deeper spatial axes are merged."""
    spatial = shape[2:]
    if len(spatial) < 2:
        return (1, spatial[0] if spatial else 1)
    return (math.prod(spatial[:-1]), spatial[-1])


def _pair(values: object) -> tuple[int, int]:
    items = [int(v) for v in values]  # type: ignore[attr-defined]
    return (items[0], items[1]) if len(items) == 2 else (1, math.prod(items))


def _kernel(node: Node, active: list[str], made_by: Mapping[str, int], shapes: Shapes) -> Workload:
    sources = tuple(made_by.get(value, GRAPH_INPUT) for value in active)
    out = shapes[node.outputs[0]]
    base = Workload(
        node.name, OPS[node.op].kind or "elementwise" if node.op in OPS else "elementwise", 1, 1, sources=sources
    )
    first = shapes[active[0]] if active else out
    if base.kind == "conv":
        weight = shapes[node.inputs[1]]
        groups = int(node.get("group", 1))
        return dataclasses.replace(
            base,
            c_in=first[1],
            c_out=out[1],
            in_hw=_hw(first),
            out_hw=_hw(out)
            if node.op == "Conv"
            else _hw(first),  # a transposed convolution multiplies once per input position
            kernel=_pair(weight[2:]),
            stride=_pair(node.get("strides", [1] * len(weight[2:]))),
            dilation=_pair(node.get("dilations", [1] * len(weight[2:]))),
            groups=groups,
        )
    if base.kind == "dense" and len(active) == 1:
        return dataclasses.replace(base, c_in=first[-1], c_out=out[-1], rows=math.prod(first[:-1]))
    if base.kind == "dense":
        return dataclasses.replace(
            base, kind="matmul", c_in=first[-1], c_out=out[-1], rows=first[-2], groups=math.prod(first[:-2]), operands=2
        )
    images = len(out) == 4
    return dataclasses.replace(
        base,
        c_in=first[1] if images and len(first) == 4 else first[-1] if first else 1,
        c_out=out[1] if images else out[-1] if out else 1,
        in_hw=_hw(first) if images else (1, 1),
        out_hw=_hw(out) if images else (1, 1),
        rows=1 if images else max(1, math.prod(out[:-1])),
        operands=_operands(base.kind, active, shapes, math.prod(out)),
        kernel=_pair(node.get("kernel_shape", [1, 1])) if base.kind == "pool" else (1, 1),
        stride=_pair(node.get("strides", [1, 1])) if base.kind == "pool" else (1, 1),
    )


def _operands(kind: str, active: list[str], shapes: Shapes, output_elements: int) -> int:
    """Activations read; a broadcast operand of arithmetic is too small to count."""
    if kind != "elementwise":
        return max(1, len(active))
    return max(1, sum(math.prod(shapes[value]) >= output_elements for value in active))
