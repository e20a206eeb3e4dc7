"""Products: of features with a weight matrix, or of two activations."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hwprofiles.workload import Kind, Workload
from search.graph import flow
from search.graph.flow import Coupling, Ids
from search.graph.ir import Graph, Node
from search.graph.ops import lower_linear
from search.graph.ops.elements import Shape, broadcast
from search.graph.ops.linear_map import Linear
from search.graph.ops.op import Op
from search.graph.ops.price import Shapes


def _flow_gemm(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """Rows of features times a weight matrix."""
    weight, bias, out = node.inputs[1], node.input(2), node.outputs[0]
    usable = inputs[0] is not None and weight in at.initializers and not node.get("transA", 0)
    if not usable or (bias and bias not in at.initializers):
        return flow.freeze(node, inputs, at)
    assert inputs[0] is not None
    consumed = 1 if node.get("transB", 0) else 0
    at.slot(node, weight, consumed, at.channels(node, inputs[0], 1), "consumes")
    fresh = at.fresh(node, at.initializers[weight].shape[1 - consumed])
    at.slot(node, weight, 1 - consumed, fresh, "produces")
    if bias and at.initializers[bias].shape[-1:] == fresh.shape:
        at.slot(node, bias, at.initializers[bias].ndim - 1, fresh, "produces")
    return [at.along(fresh, 1, out)]


def _flow_matmul(node: Node, inputs: Sequence[Ids | None], at: Coupling) -> Sequence[Ids]:
    """Features on the last axis times a weight matrix (c_in, c_out), or a product of activations."""
    weight, out = node.inputs[1], node.outputs[0]
    if inputs[0] is not None and inputs[1] is not None:
        return [_product_ids(node, inputs[0], inputs[1], at)]
    if inputs[0] is None or weight not in at.initializers or at.initializers[weight].ndim != 2:
        return flow.freeze(node, inputs, at)
    at.slot(node, weight, 0, at.channels(node, inputs[0], -1), "consumes")
    fresh = at.fresh(node, at.initializers[weight].shape[1])
    at.slot(node, weight, 1, fresh, "produces")
    return [at.along(fresh, -1, out)]


def _product_ids(node: Node, a: Ids, b: Ids, at: Coupling) -> Ids:
    """Ids of a (..., i, k) times b (..., k, j): units of a whole matrix (an attention head) meet and go on.

    Units along k are summed over; nothing that has weights says which of them goes, so they stay.
    """
    left, right = at.summed(node, a, -1), at.summed(node, b, -2)
    return flow.meet(node, [left, right], at.shapes[node.outputs[0]], at)


def _elements_of_matmul(_node: Node, _inputs: Sequence[Any], shapes: Sequence[Shape]) -> int:
    a, b = shapes[0], shapes[1]
    if len(a) < 2 or len(b) < 2:
        return max(math.prod(a), math.prod(b))
    return broadcast([a[:-2], b[:-2]]) * a[-2] * b[-1]


def _elements_of_gemm(node: Node, _inputs: Sequence[Any], shapes: Sequence[Shape]) -> int:
    return (
        max(shapes[0]) * max(shapes[1])
        if any(node.get(n, 0) for n in ("transA", "transB"))
        else shapes[0][0] * shapes[1][-1]
    )


def _elements_of_einsum(node: Node, _inputs: Sequence[Any], shapes: Sequence[Shape]) -> int:
    """Every index, at the size it has anywhere."""
    sizes: dict[str, int] = {}
    terms = str(node.get("equation", "")).split("->")[0].replace(" ", "").replace("...", "").split(",")
    for term, shape in zip(terms, shapes, strict=False):
        sizes.update(
            {
                label: max(size, sizes.get(label, 1))
                for label, size in zip(reversed(term), reversed(shape), strict=False)
            }
        )
    result = str(node.get("equation", "")).split("->")
    kept = result[1] if len(result) > 1 else "".join(terms)
    return math.prod(size for label, size in sizes.items() if label in kept)


def price_product(node: Node, base: Workload, active: Sequence[str], shapes: Shapes) -> Workload:
    """One activation times a weight, or two activations."""
    out, first = shapes[next(name for name in node.outputs if name)], shapes[active[0]]
    if len(active) == 1:
        return dataclasses.replace(base, c_in=first[-1], c_out=out[-1], rows=math.prod(first[:-1]))
    rows, copies = (*(1, 1), *first)[-2], math.prod(first[:-2])
    return dataclasses.replace(base, kind="matmul", c_in=first[-1], c_out=out[-1], rows=rows, groups=copies, operands=2)


def _price_einsum(node: Node, base: Workload, active: Sequence[str], shapes: Shapes) -> Workload:
    """As many multiplications as there are combinations of indices."""
    terms, _, out = node.get("equation").replace(" ", "").replace("...", "").partition("->")
    names = terms.split(",")
    sizes = {
        letter: size
        for name, term in zip(node.inputs, names, strict=True)
        for letter, size in zip(term[::-1], shapes[name][::-1], strict=False)
    }
    total, summed = math.prod(sizes.values()), math.prod(size for letter, size in sizes.items() if letter not in out)
    c_out = sizes[out[-1]] if out else 1
    kind: Kind = "matmul" if len(active) > 1 else "dense"
    return dataclasses.replace(base, kind=kind, c_in=summed, c_out=c_out, rows=total // (summed * c_out))


def _is_plain(node: Node) -> bool:
    return bool(node.get("alpha", 1.0) == 1.0 and node.get("beta", 1.0) == 1.0)


def _linear_gemm(node: Node, _graph: Graph) -> Linear | None:
    plain = _is_plain(node) and not node.get("transA", 0)
    return Linear(node, node.inputs[1], node.input(2), 1, node.outputs[0]) if plain else None


def _linear_matmul(node: Node, graph: Graph) -> Linear | None:
    """With the bias that the Add behind it adds, where that is a vector of the product's width."""
    weight = graph.initializers[node.inputs[1]]
    if weight.ndim != 2:
        return None
    readers = graph.consumers().get(node.outputs[0], [])
    if len(readers) == 1 and readers[0].op == "Add":
        bias = next((name for name in readers[0].inputs if name in graph.initializers), "")
        if bias and graph.initializers[bias].shape == weight.shape[1:] and graph.initializers[bias].dtype == np.float32:
            return Linear(node, node.inputs[1], bias, 1, readers[0].outputs[0])
    return Linear(node, node.inputs[1], "", 1, node.outputs[0])


def _output_axis_of_gemm(node: Node) -> int | None:
    return (0 if node.get("transB", 0) else 1) if _is_plain(node) else None


def _fits_gemm(node: Node, given: Sequence[tuple[int, ...]], _made: tuple[int, ...]) -> bool:
    return given[0][0 if node.get("transA", 0) else 1] == given[1][1 if node.get("transB", 0) else 0]


OPS: dict[str, Op] = {
    "Gemm": Op(
        lower_linear.gemm,
        _flow_gemm,
        weights=(1, 2),
        elements=_elements_of_gemm,
        fits=_fits_gemm,
        told=True,
        scores="makes",
        linear=_linear_gemm,
        output_axis=_output_axis_of_gemm,
        kind="dense",
        price=price_product,
        product=True,
    ),
    "MatMul": Op(
        lower_linear.matmul,
        _flow_matmul,
        weights=(0, 1),
        elements=_elements_of_matmul,
        told=True,
        scores="makes",
        linear=_linear_matmul,
        kind="dense",
        price=price_product,
        product=True,
    ),
    "Einsum": Op(lower_linear.einsum, elements=_elements_of_einsum, kind="dense", price=_price_einsum),
    "Det": Op(lower_linear.determinant, kind="elementwise"),
}
