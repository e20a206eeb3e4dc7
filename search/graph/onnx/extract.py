"""Part of a file as a model of its own, with whatever the bodies of control flow read from outside."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import onnx
from onnx import TensorProto, helper

from search.graph.messages import reads
from search.graph.onnx.observe import FETCHED, Observation

NEWEST_IR = 10
OLDEST_IR = 4
"""From it on, initializers need not be inputs: constants of a part are initializers only."""


def extract(proto: onnx.ModelProto, chosen: Collection[int], outputs: Sequence[str], seen: Observation) -> bytes:
    """The chosen nodes of a graph as a model: what they read is its input, constants of the file too.

    Args:
        proto: a model whose functions are inlined.
        chosen: positions of nodes.
        outputs: values that they make.
        seen: types of the values.

    Returns:
        A serialised model. Numbers that numpy does not have (bfloat16) come in and go out as float32.
    """
    nodes = [proto.graph.node[i] for i in sorted(chosen)]
    made = {name for node in nodes for name in node.output}
    read = dict.fromkeys(name for node in nodes for name in reads(node) if name not in made)
    given = {info.name: info.type for info in proto.graph.input}
    before, inputs, after, results = [], [], [], []
    for name in read:
        code = seen.types.get(name)
        if code is None:
            inputs.append(onnx.ValueInfoProto(name=name, type=given.get(name)))
        elif _narrow(code):
            inputs.append(helper.make_tensor_value_info(f"{name}/float", TensorProto.FLOAT, None))
            before.append(helper.make_node("Cast", [f"{name}/float"], [name], to=code))
        else:
            inputs.append(helper.make_tensor_value_info(name, code, None))
    for name in outputs:
        code = seen.types.get(name, TensorProto.FLOAT)
        results.append(f"{name}/float" if _narrow(code) else name)
        if _narrow(code):
            after.append(helper.make_node("Cast", [name], [results[-1]], to=TensorProto.FLOAT))
    graph = helper.make_graph(
        [*before, *nodes, *after], "carried", inputs, [onnx.ValueInfoProto(name=name) for name in results]
    )
    version = min(max(proto.ir_version, OLDEST_IR), NEWEST_IR)
    model = helper.make_model(graph, opset_imports=proto.opset_import, ir_version=version)
    return bytes(model.SerializeToString(deterministic=True))


def _narrow(code: int) -> bool:
    return TensorProto.DataType.Name(code).lower() not in FETCHED
