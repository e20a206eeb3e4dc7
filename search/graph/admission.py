"""What a graph would cost, in Python integers, before anything is allocated.

The ONNX checker is no admission control: it accepts 78 bytes that need 4 TiB. Every operator is asked for the number of
elements it would make from the shapes of its inputs and the constants that name sizes; whoever asks for too much is
refused by name. Local functions are counted before they are inlined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference

from search.errors import InvalidModel, ResourceLimit
from search.graph.ir import Node

MAX_NODES = 100_000
MAX_CONSTANT_ELEMENTS = 1 << 24
"""Of one computed constant, above what it is computed from: 64 MiB in float32."""
MAX_CONSTANTS_ELEMENTS = 1 << 28
"""Of all that operators without any input from outside make: 1 GiB in float32."""
SMALL_ELEMENTS = 1024
"""Of a constant that may name sizes: far more axes than a tensor has."""
MAX_VALUE_ELEMENTS = 1 << 30
"""Of one activation at batch 2 or 3."""
MAX_TOTAL_ELEMENTS = 1 << 34
"""Of all activations together."""
Shape = tuple[int, ...]


def check_nodes(proto: onnx.ModelProto) -> None:
    """Refuse local functions that call each other in a circle, and graphs that are too large once these are inlined.

    Raises:
        InvalidModel: a function calls itself.
        ResourceLimit: too many nodes.
    """
    bodies = {(function.domain, function.name): function.node for function in proto.functions}
    counts: dict[tuple[str, str], int] = {}

    def count(nodes: Sequence[onnx.NodeProto], inside: tuple[tuple[str, str], ...]) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            if key in inside:
                raise InvalidModel(f"the local function `{node.op_type}` calls itself; export the model without it")
            if key in bodies and key not in counts:
                counts[key] = count(bodies[key], (*inside, key))
            total += counts.get(key, 1) if key in bodies else 1
            total += sum(count(item.g.node, inside) for item in node.attribute if item.HasField("g"))
        return total

    for key, nodes in bodies.items():
        counts.setdefault(key, count(nodes, (key,)))
    total = count(proto.graph.node, ())
    if total > MAX_NODES:
        raise ResourceLimit(f"the model has {total} nodes; {MAX_NODES} are allowed", found=total, allowed=MAX_NODES)


def check_constants(proto: onnx.ModelProto) -> None:
    """Refuse what a file makes out of nothing, before any runtime runs it: 100 bytes may ask for terabytes of zeros.

    Sizes are those of ONNX's own shape inference, which follows the arithmetic of shapes.

    Raises:
        ResourceLimit: names the node that makes most.
    """
    graph = proto.graph
    constants = {tensor.name for tensor in graph.initializer} | {""}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if constants.issuperset(node.input) and not any(item.HasField("g") or item.graphs for item in node.attribute):
            constants.update(node.output)
            nodes.append(node)
    makers = {name: node for node in nodes if node.op_type in RULES for name in node.output if name}
    if not makers:
        return
    wanted, behind = set(makers), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            behind.append(node)
    sizes = {name: math.prod(shape) for name, shape in _inferred(proto, behind[::-1]).items()}
    paid = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
    grown = {
        name: sizes.get(name, 0) - sum(paid.get(value, 0) for value in node.input) for name, node in makers.items()
    }
    most = max(grown, key=grown.__getitem__)
    total = sum(max(0, elements) for elements in grown.values())
    if grown[most] <= MAX_CONSTANT_ELEMENTS and total <= MAX_CONSTANTS_ELEMENTS:
        return
    node = makers[most]
    raise ResourceLimit(
        f"node `{node.name or most}` ({node.op_type}) makes {grown[most]} elements out of constants, {total} in all are made so; "
        f"{MAX_CONSTANT_ELEMENTS} are allowed, {MAX_CONSTANTS_ELEMENTS} in all; export the model with smaller sizes",
        node=node.name or most,
        operator=node.op_type,
        found=min(grown[most], 2**63 - 1),
        allowed=MAX_CONSTANT_ELEMENTS,
    )


def _inferred(proto: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> dict[str, Shape]:
    """Shapes, as far as they are known, of what some nodes make of constants; of large constants only the shape is looked at."""
    read = {name for node in nodes for name in node.input}
    light = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import)
    light.graph.name = "constants"
    light.graph.node.extend(nodes)
    for tensor in (tensor for tensor in proto.graph.initializer if tensor.name in read):
        if math.prod(tensor.dims) <= SMALL_ELEMENTS:
            light.graph.initializer.append(tensor)
        else:
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            light.graph.input.append(info)
    light.graph.output.extend(onnx.ValueInfoProto(name=name) for node in nodes for name in node.output if name)
    inferred = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    found: dict[str, Shape] = {}
    for value in inferred.output:
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            found[value.name] = tuple(dim.dim_value for dim in dims)
    return found


def check_cost(node: Node, inputs: Sequence[Any], *, constant: bool) -> None:
    """Refuse an operator whose outputs would be too large. ``inputs`` have shapes; constants are numpy arrays.

    Raises:
        ResourceLimit: names the node.
    """
    allowed = MAX_CONSTANT_ELEMENTS if constant else MAX_VALUE_ELEMENTS
    found = growth(node, inputs) if constant else output_elements(node, inputs)
    if found > allowed:
        raise ResourceLimit(
            f"node `{node.name}` ({node.op}) would make {found} elements; {allowed} are allowed; "
            "export the model with smaller sizes",
            node=node.name,
            operator=node.op,
            found=min(found, 2**63 - 1),
            allowed=allowed,
        )


def check_total(shapes: Sequence[Shape]) -> None:
    """Refuse a graph whose activations together are too large.

    Raises:
        ResourceLimit: with the count and the limit.
    """
    total = sum(math.prod(shape) for shape in shapes)
    if total > MAX_TOTAL_ELEMENTS:
        raise ResourceLimit(
            f"the activations have {total} elements; {MAX_TOTAL_ELEMENTS} are allowed; export the model with smaller inputs",
            found=min(total, 2**63 - 1),
            allowed=MAX_TOTAL_ELEMENTS,
        )


def growth(node: Node, inputs: Sequence[Any]) -> int:
    """Elements of the largest output above those of the inputs, each counted once: what the file did not pay for."""
    distinct: dict[int, int] = {id(value): math.prod(value.shape) for value in inputs if hasattr(value, "shape")}
    return output_elements(node, inputs) - sum(distinct.values())


def output_elements(node: Node, inputs: Sequence[Any]) -> int:
    """Elements of the largest output, at most; operators that only shrink or keep what they read need no rule."""
    shapes = [tuple(int(size) for size in value.shape) for value in inputs if hasattr(value, "shape")]
    largest = max((math.prod(shape) for shape in shapes), default=1)
    rule = RULES.get(node.op)
    if rule is not None:
        return max(largest, rule(node, inputs, shapes))
    return max(largest, _broadcast(shapes))


def _broadcast(shapes: Sequence[Shape]) -> int:
    rank = max(map(len, shapes), default=0)
    aligned = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return math.prod(max(sizes) for sizes in zip(*aligned, strict=True)) if aligned else 1


def _numbers(inputs: Sequence[Any], position: int) -> list[int]:
    """A constant operand that names sizes, as Python integers; nothing where it is missing or computed."""
    value = inputs[position] if position < len(inputs) else None
    return [math.ceil(float(v)) for v in value.reshape(-1)] if isinstance(value, np.ndarray) and value.size < 64 else []


def _sizes(position: int) -> Callable[..., int]:
    """The operand names the whole shape."""
    return lambda _node, inputs, _shapes: math.prod(max(size, 1) for size in _numbers(inputs, position))


def _expand(_node: Node, inputs: Sequence[Any], shapes: Sequence[Shape]) -> int:
    return _broadcast([shapes[0], tuple(max(size, 1) for size in _numbers(inputs, 1))])


def _tile(_node: Node, inputs: Sequence[Any], shapes: Sequence[Shape]) -> int:
    return math.prod(shapes[0]) * math.prod(max(count, 1) for count in _numbers(inputs, 1))


def _concat(_node: Node, _inputs: Sequence[Any], shapes: Sequence[Shape]) -> int:
    return sum(map(math.prod, shapes))


def _range(_node: Node, inputs: Sequence[Any], _shapes: Sequence[Shape]) -> int:
    if not all(isinstance(value, np.ndarray) for value in inputs):
        return 1
    start, stop, step = (float(np.asarray(value).reshape(-1)[0]) for value in inputs)
    return max(0, math.ceil((stop - start) / step)) if step and math.isfinite((stop - start) / step) else 1


def _matmul(_node: Node, _inputs: Sequence[Any], shapes: Sequence[Shape]) -> int:
    a, b = shapes[0], shapes[1]
    if len(a) < 2 or len(b) < 2:
        return max(math.prod(a), math.prod(b))
    return _broadcast([a[:-2], b[:-2]]) * a[-2] * b[-1]


def _gemm(node: Node, _inputs: Sequence[Any], shapes: Sequence[Shape]) -> int:
    return (
        max(shapes[0]) * max(shapes[1])
        if any(node.get(n, 0) for n in ("transA", "transB"))
        else shapes[0][0] * shapes[1][-1]
    )


def _pad(node: Node, inputs: Sequence[Any], shapes: Sequence[Shape]) -> int:
    pads = [int(v) for v in node.get("pads", [])] or _numbers(inputs, 1)
    axes = _numbers(inputs, 3) or list(range(len(shapes[0])))
    sizes = list(shapes[0])
    for i, axis in enumerate(axes[: len(pads) // 2]):
        sizes[axis] += max(0, pads[i]) + max(0, pads[i + len(axes)])
    return math.prod(sizes)


def _resize(node: Node, inputs: Sequence[Any], shapes: Sequence[Shape]) -> int:
    """Scales stand on the second or third place, sizes on the fourth.

    An axis also gets its positions (new,), or a matrix (new, old): constants, and so held to the limit of constants.
    """
    axes = [int(axis) % len(shapes[0]) for axis in node.get("axes", range(len(shapes[0])))]
    old = [shapes[0][axis] for axis in axes]
    scales: list[float] = [math.ceil(float(v)) for v in node.get("scales", [])] or list(
        _numbers(inputs, 2) or _numbers(inputs, 1)
    )
    sizes = _numbers(inputs, 3)
    if not scales and not sizes:
        return 1  # they depend on the data, and what does is run by ONNX Runtime
    if sizes and node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        scales, sizes = [max(new / before for new, before in zip(sizes, old, strict=True))] * len(old), []
    new = sizes or [math.ceil(before * max(scale, 1)) for before, scale in zip(old, scales, strict=True)]
    kept = math.prod(size for axis, size in enumerate(shapes[0]) if axis not in axes)
    nearest = node.get("mode", "nearest") == "nearest"
    constants = [after * (1 if nearest else before) for after, before in zip(new, old, strict=True)]
    return max(kept * math.prod(new), MAX_VALUE_ELEMENTS // MAX_CONSTANT_ELEMENTS * max(constants, default=1))


def _gather(node: Node, _inputs: Sequence[Any], shapes: Sequence[Shape]) -> int:
    axis = int(node.get("axis", 0))
    return math.prod(shapes[0]) // max(1, shapes[0][axis]) * math.prod(shapes[1])


def _one_hot(_node: Node, inputs: Sequence[Any], shapes: Sequence[Shape]) -> int:
    return math.prod(shapes[0]) * math.prod(_numbers(inputs, 1))


def _einsum(node: Node, _inputs: Sequence[Any], shapes: Sequence[Shape]) -> int:
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


def _conv(node: Node, _inputs: Sequence[Any], shapes: Sequence[Shape]) -> int:
    """Padding makes a map larger, strides are left out."""
    x, weight = shapes[0], shapes[1]
    pads = [abs(int(p)) for p in node.get("pads", [0] * 2 * (len(x) - 2))]
    rank = len(x) - 2
    return x[0] * weight[0] * math.prod(size + pads[i] + pads[i + rank] for i, size in enumerate(x[2:]))


def _conv_transpose(node: Node, _inputs: Sequence[Any], shapes: Sequence[Shape]) -> int:
    x, weight = shapes[0], shapes[1]
    strides = [int(s) for s in node.get("strides", [1] * (len(x) - 2))]
    dilations = [int(s) for s in node.get("dilations", [1] * (len(x) - 2))]
    spatial = zip(x[2:], strides, weight[2:], dilations, strict=True)
    named = math.prod(int(size) for size in node.get("output_shape", [1]))
    channels = weight[1] * int(node.get("group", 1))
    return (
        x[0] * channels * max(named, math.prod(size * stride + k * dilation for size, stride, k, dilation in spatial))
    )


RULES: dict[str, Callable[[Node, Sequence[Any], Sequence[Shape]], int]] = {
    "ConstantOfShape": _sizes(0),
    "Reshape": lambda _node, _inputs, shapes: math.prod(shapes[0]),
    "Expand": _expand,
    "Tile": _tile,
    "Concat": _concat,
    "Range": _range,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Pad": _pad,
    "Resize": _resize,
    "Upsample": _resize,
    "Gather": _gather,
    "OneHot": _one_hot,
    "Einsum": _einsum,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "CenterCropPad": _sizes(1),
    "MaxUnpool": _sizes(2),
    "AffineGrid": _sizes(1),
    "HannWindow": _sizes(0),
    "HammingWindow": _sizes(0),
    "BlackmanWindow": _sizes(0),
    **dict.fromkeys(
        (
            "ScatterND", "ScatterElements", "Scatter", "TensorScatter", "GatherElements", "GatherND", "Slice", "Split", "TopK",
            "BatchNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization", "RNN", "GRU", "LSTM",
            "Compress", "NonMaxSuppression", "ReverseSequence", "GridSample", "Squeeze", "Unsqueeze", "Attention", "Trilu",
            "QLinearConv", "ConvInteger", "RotaryEmbedding", "Col2Im", "DFT", "STFT", "CausalConvWithState", "RMSNormalization",
        ),
        lambda _node, _inputs, _shapes: 1,
    ),
}  # fmt: skip
"""Operators whose operands do not broadcast against each other; those of the last lines make no more than they read,
or little more."""
