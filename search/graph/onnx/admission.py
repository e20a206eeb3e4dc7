"""What a graph would cost, in Python integers, before anything is allocated.

The ONNX checker is no admission control: it accepts 78 bytes that need 4 TiB. Here is what can be counted before any node is
run: local functions before they are inlined, and what is made of constants alone. What other nodes make:
`search.graph.ops.growth`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx
import onnx.shape_inference

from search.graph.limits import MAX_CONSTANT_ELEMENTS, MAX_CONSTANTS_ELEMENTS, MAX_NODES, SMALL_ELEMENTS
from search.graph.ops import named
from search.wire.errors import InvalidModel, ResourceLimit

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
    makers = {name: node for node in nodes if _may_grow(node) for name in node.output if name}
    if not makers:
        return
    wanted, behind = set(makers), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            behind.append(node)
    paid = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
    for follow in (False, True):  # what is already known to be huge is not followed: inference would compute it
        sizes = {name: math.prod(shape) for name, shape in _inferred(proto, behind[::-1], follow=follow).items()}
        grown = {name: sizes.get(name, 0) - sum(paid.get(v, 0) for v in node.input) for name, node in makers.items()}
        most = max(grown, key=grown.__getitem__)
        total = sum(max(0, elements) for elements in grown.values())
        if grown[most] > MAX_CONSTANT_ELEMENTS or total > MAX_CONSTANTS_ELEMENTS:
            break
    else:
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


def _may_grow(node: onnx.NodeProto) -> bool:
    """Whether it may make far more than it reads."""
    entry = named("", node.op_type)
    return entry is not None and entry.grows


def _inferred(proto: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], *, follow: bool) -> dict[str, Shape]:
    """Shapes, as far as they are known, of what some nodes make of constants; of large constants only the shape is looked at.

    With ``follow`` the arithmetic of shapes is computed as well.
    """
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
    inferred = onnx.shape_inference.infer_shapes(light, data_prop=follow).graph
    found: dict[str, Shape] = {}
    for value in inferred.output:
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            found[value.name] = tuple(dim.dim_value for dim in dims)
    return found
