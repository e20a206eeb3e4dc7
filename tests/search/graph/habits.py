"""Habits of exporters: the same network as different tools write it. Each habit changes a file and not what it computes, much.

Where a network changes (a gain of 0, weights that become one), that is what the habit is for; ONNX Runtime decides in the laws
whether a file is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from search.graph.upload import Upload

Array = np.ndarray[Any, Any]
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class File:
    """A model that is being written by some exporter."""

    def __init__(self, proto: onnx.ModelProto, seed: int) -> None:
        self.proto = onnx.ModelProto.FromString(proto.SerializeToString())
        self.graph = self.proto.graph
        self.random = np.random.default_rng(seed)
        self.outside = False
        self._count = 0

    def name(self, word: str) -> str:
        """A new name."""
        self._count += 1
        return f"{word}.{self._count}"

    def weights(self, least_axes: int = 1) -> list[TensorProto]:
        """Float initializers with axes that some node reads."""
        read = {name for node in self.graph.node for name in node.input}
        return [
            tensor
            for tensor in self.graph.initializer
            if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) >= least_axes and tensor.name in read
        ]

    def some(self, tensors: list[TensorProto]) -> list[TensorProto]:
        """About a third of them, one at least where there is any."""
        if not tensors:
            return []
        chosen = self.random.random(len(tensors)) < 0.3
        chosen[self.random.integers(len(tensors))] = True
        return [tensor for tensor, take in zip(tensors, chosen, strict=True) if take]

    def add(self, value: Any, word: str = "k") -> str:
        """A new initializer."""
        name = self.name(word)
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def first(self, *nodes: onnx.NodeProto) -> None:
        """New nodes in front of all others."""
        for node in reversed(nodes):
            self.graph.node.insert(0, node)

    def upload(self) -> Upload:
        """What a client gives: with a data file where the habit says so."""
        if not self.outside:
            return Upload(self.proto.SerializeToString())
        proto, content = onnx.ModelProto.FromString(self.proto.SerializeToString()), bytearray()
        for tensor in proto.graph.initializer:
            if tensor.HasField("raw_data") and len(tensor.raw_data) >= 64:
                for key, value in (
                    ("location", "net.data"),
                    ("offset", len(content)),
                    ("length", len(tensor.raw_data)),
                ):
                    tensor.external_data.add(key=key, value=str(value))
                content += tensor.raw_data
                tensor.ClearField("raw_data")
                tensor.data_location = TensorProto.EXTERNAL
        return Upload(proto.SerializeToString(), {"net.data": bytes(content)} if content else {})


def _hidden(file: File, least_axes: int = 1) -> Iterator[tuple[str, Array]]:
    """Weights whose initializers go, so that nodes make them."""
    for tensor in file.some(file.weights(least_axes)):
        value, name = numpy_helper.to_array(tensor), tensor.name
        file.graph.initializer.remove(tensor)
        yield name, value


def constants(file: File) -> None:
    """Paddle: weights are Constant nodes; vectors sometimes lists of floats."""
    for name, value in _hidden(file):
        if value.ndim == 1 and file.random.random() < 0.3:
            file.first(helper.make_node("Constant", [], [name], value_floats=value.tolist()))
        else:
            file.first(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value, name)))


def identities(file: File) -> None:
    """PyTorch's exporter, for weights that it found to be equal; sometimes two in a row."""
    for name, value in _hidden(file):
        middle = file.name(name)
        file.first(
            helper.make_node("Identity", [file.add(value, "raw")], [middle]),
            helper.make_node("Identity", [middle], [name]),
        )


def transposes(file: File) -> None:
    """A linear layer as x @ W.T."""
    for name, value in _hidden(file, 2):
        perm = file.random.permutation(value.ndim)
        raw = file.add(np.ascontiguousarray(value.transpose(np.argsort(perm))), "raw")
        file.first(helper.make_node("Transpose", [raw], [name], perm=perm.tolist()))


def reshapes(file: File) -> None:
    """Keras: a flat or otherwise grouped tensor, reshaped."""
    for name, value in _hidden(file):
        target = list(value.shape)
        if file.random.random() < 0.5:
            target[0] = -1
        raw = file.add(value.reshape(-1) if file.random.random() < 0.5 else value[None], "raw")
        file.first(helper.make_node("Reshape", [raw, file.add(np.array(target, np.int64))], [name]))


def squeezes(file: File) -> None:
    """An axis of one, taken away or put in."""
    for name, value in _hidden(file):
        raw = file.add(value[:, None], "raw")
        file.first(helper.make_node("Squeeze", [raw, file.add(np.array([1], np.int64))], [name]))


def concats(file: File) -> None:
    """Parts that a network keeps apart (gates, heads), joined."""
    for name, value in _hidden(file):
        axis = int(file.random.integers(value.ndim))
        at = int(file.random.integers(value.shape[axis] + 1))
        parts = [file.add(part, "raw") for part in np.split(value, [at], axis) if part.size]
        file.first(helper.make_node("Concat", parts, [name], axis=axis))


def slices(file: File) -> None:
    """A window of a larger tensor, the rest of which nobody reads."""
    for name, value in _hidden(file):
        more = file.random.standard_normal((2, *value.shape[1:])).astype(value.dtype)
        raw = file.add(np.concatenate([more, value]), "raw")
        operands = [file.add(np.array([v], np.int64)) for v in (2, 2 + len(value), 0)]
        file.first(helper.make_node("Slice", [raw, *operands], [name]))


def splits(file: File) -> None:
    """Two weights packed into one tensor, as queries and keys are."""
    found = dict(_hidden(file))
    while len(found) > 1:
        (one, a), (two, b) = found.popitem(), found.popitem()
        if a.shape[1:] != b.shape[1:]:
            found[two] = b
            file.graph.initializer.append(numpy_helper.from_array(a, one))
            continue
        raw = file.add(np.concatenate([a, b]), "raw")
        sizes = file.add(np.array([len(a), len(b)], np.int64))
        file.first(helper.make_node("Split", [raw, sizes], [one, two], axis=0))
    for name, value in found.items():
        file.graph.initializer.append(numpy_helper.from_array(value, name))


def casts(file: File) -> None:
    """Stored in another type than the network computes in."""
    for name, value in _hidden(file):
        kind = (np.float16, np.float64)[file.random.integers(2)]
        file.first(helper.make_node("Cast", [file.add(value.astype(kind), "raw")], [name], to=TensorProto.FLOAT))


def arithmetic(file: File) -> None:
    """Weight normalisation and equalised learning rates: a weight times something."""
    for name, value in _hidden(file):
        shape = (len(value), *[1] * (value.ndim - 1)) if file.random.random() < 0.5 else ()
        scale = file.random.uniform(0.5, 1.5, shape).astype(np.float32)
        file.first(helper.make_node("Mul", [file.add(value / scale, "raw"), file.add(scale)], [name]))


def quantised(file: File) -> None:
    """Weights in 8 bits or fewer with one scale, one a channel, or one a block; biases in 32."""
    weighted = {node.input[1] for node in file.graph.node if node.op_type in WEIGHTED}
    for tensor in file.some([t for t in file.weights() if t.name in weighted]):
        value, name = numpy_helper.to_array(tensor), tensor.name
        way = ("tensor", "channel", "block")[file.random.integers(3)]
        code, most = ((TensorProto.INT8, 127), (TensorProto.UINT8, 127), (TensorProto.INT4, 7))[file.random.integers(3)]
        if way == "block" or code == TensorProto.INT4:
            for item in file.proto.opset_import:
                if item.domain == "" and item.version < 21:
                    way, code, most = ("tensor" if way == "block" else way), TensorProto.INT8, 127
        axis, size = int(file.random.integers(value.ndim)), 2
        if way == "tensor":
            scale = np.float32(max(np.abs(value).max(), 1e-3) / most)
            spread = scale
        elif way == "channel":
            others = tuple(i for i in range(value.ndim) if i != axis)
            scale = (np.maximum(np.abs(value).max(others), 1e-3) / most).astype(np.float32)
            spread = scale.reshape([-1 if i == axis else 1 for i in range(value.ndim)])
        else:
            starts = np.arange(0, value.shape[axis], size)
            scale = np.maximum(np.maximum.reduceat(np.abs(value), starts, axis), 1e-3).astype(np.float32) / np.float32(
                most
            )
            spread = np.repeat(scale, size, axis).take(np.arange(value.shape[axis]), axis)
        offset = 128 if code == TensorProto.UINT8 else 0
        kind = helper.tensor_dtype_to_np_dtype(code)
        file.graph.initializer.remove(tensor)
        numbers = (np.clip(np.round(value / spread), -most, most) + offset).astype(np.int32).astype(kind)
        inputs = [file.add(numbers, "q"), file.add(scale.astype(np.float32), "s")]
        if offset or file.random.random() < 0.5:
            inputs.append(file.add(np.full(np.shape(scale), offset, np.int32).astype(kind), "z"))
        attributes: dict[str, int] = {} if way == "tensor" else {"axis": axis}
        if way == "block":
            attributes["block_size"] = size
        file.first(helper.make_node("DequantizeLinear", inputs, [name], **attributes))
    biases = {node.input[2] for node in file.graph.node if node.op_type in WEIGHTED and len(node.input) > 2}
    for tensor in [t for t in file.weights() if t.name in biases and file.random.random() < 0.3]:
        value, name = numpy_helper.to_array(tensor), tensor.name
        file.graph.initializer.remove(tensor)
        scale = np.float32(1e-4)
        inputs = [file.add(np.round(value / scale).astype(np.int32), "q"), file.add(scale, "s")]
        file.first(helper.make_node("DequantizeLinear", inputs, [name]))


def tied(file: File) -> None:
    """Tensors of one shape and use become one: a layer used twice, or equals that a tool merged."""
    alike: dict[Any, list[TensorProto]] = {}
    found = {tensor.name: tensor for tensor in file.weights()}
    for node in file.graph.node:
        for i, name in enumerate(node.input):
            if name in found:
                alike.setdefault((node.op_type, i, *found[name].dims), []).append(found[name])
    several = [tensors for tensors in alike.values() if len(tensors) > 1]
    if several:
        first, *others = several[file.random.integers(len(several))]
        for other in others[: 1 + file.random.integers(len(others))]:
            for node in file.graph.node:
                for i, name in enumerate(node.input):
                    if name == other.name:
                        node.input[i] = first.name
            file.graph.initializer.remove(other)


def zero_gains(file: File) -> None:
    """Channels that a batch norm switches off."""
    for node in file.graph.node:
        if node.op_type == "BatchNormalization":
            for tensor in file.graph.initializer:
                if tensor.name == node.input[1] and tensor.data_type == TensorProto.FLOAT:
                    value = numpy_helper.to_array(tensor).copy()
                    value[file.random.random(value.shape) < 0.3] = 0
                    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


def no_biases(file: File) -> None:
    """Convolutions before a norm rarely have one."""
    for node in file.graph.node:
        if node.op_type == "Conv" and len(node.input) == 3 and file.random.random() < 0.5:
            del node.input[2]


def half(file: File) -> None:
    """Everything in 16 bits."""
    _in_type(file, TensorProto.FLOAT16, np.float16)


def double(file: File) -> None:
    """Everything in 64 bits, as scikit-learn has it; ONNX Runtime has no convolutions and recurrences of that type."""
    if not {node.op_type for node in file.graph.node} & {"Conv", "ConvTranspose", "LSTM", "GRU", "Cast"}:
        _in_type(file, TensorProto.DOUBLE, np.float64)


def _in_type(file: File, code: int, kind: Any) -> None:
    outer = file.graph.input[0].type.tensor_type
    if any(node.op_type == "DequantizeLinear" for node in file.graph.node) or outer.elem_type == TensorProto.INT64:
        return
    for node in file.graph.node:
        for attribute in node.attribute:
            if attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
                value = numpy_helper.to_array(attribute.t).astype(kind)
                attribute.t.CopyFrom(numpy_helper.from_array(value, attribute.t.name))
            elif attribute.name == "value_floats":
                value = np.array(attribute.floats, kind)
                attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(value)))
            elif attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = code
    for tensor in file.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(kind), tensor.name))
    for info in (*file.graph.input, *file.graph.output):
        info.type.tensor_type.elem_type = code
    del file.graph.value_info[:]


def typed(file: File) -> None:
    """Older tools: numbers in the fields of their types, not as raw bytes."""
    for tensor in file.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if (
            value.dtype.name in ("float32", "int64", "float16", "float64", "int8", "uint8")
            and file.random.random() < 0.5
        ):
            tensor.CopyFrom(helper.make_tensor(tensor.name, tensor.data_type, value.shape, value.reshape(-1)))


def old_inputs(file: File) -> None:
    """IR 3: every initializer is an input as well."""
    file.proto.ir_version = 3
    given = {info.name for info in file.graph.input}
    for tensor in file.graph.initializer:
        if tensor.name not in given:
            file.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))


def default_input(file: File) -> None:
    """A weight that callers may override."""
    for tensor in file.some(file.weights())[:1]:
        file.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))


def notes(file: File) -> None:
    """Metadata, doc strings, another tool's domain, odd node names, what nobody reads, notes on quantisation."""
    proto, graph = file.proto, file.graph
    proto.producer_name, proto.doc_string, proto.model_version = "a tool", "trained with care", 7
    for holder in (proto, graph, *graph.node[:2], *graph.initializer[:2], *graph.input[:1]):
        holder.metadata_props.add(key="author", value="somebody")
    proto.opset_import.add(domain="com.example", version=3)
    graph.doc_string, graph.input[0].doc_string = "a graph", "an image"
    for i, node in enumerate(graph.node):
        node.doc_string = f"from line {i}"
        node.name = "" if file.random.random() < 0.5 else f"layer {i} ünïcode"
    file.add(np.arange(5, dtype=np.float32), "unused")
    dead = helper.make_node("Relu", [graph.node[0].output[0]], [file.name("dead")], doc_string="forgotten")
    graph.node.insert(1, dead)
    for tensor in file.some(file.weights()):
        graph.quantization_annotation.add(tensor_name=tensor.name).quant_parameter_tensor_names.add(key="S", value="s")


def functions(file: File) -> None:
    """PyTorch's `export_modules_as_functions`: layers become calls; one body serves all calls with the same attributes."""
    domain = "modules"
    names: dict[bytes, str] = {}
    for node in file.graph.node:
        if node.domain or node.op_type not in ("Relu", "Conv", "Gemm") or file.random.random() < 0.4:
            continue
        inputs, outputs = [f"i{k}" for k in range(len(node.input))], ["o"]
        body = helper.make_node("Identity", ["m"], ["o"])
        inner = onnx.NodeProto(op_type=node.op_type, input=inputs, output=["m"], attribute=node.attribute)
        key = inner.SerializeToString(deterministic=True)
        if key not in names:
            names[key] = f"F{len(names)}"
            opsets = [item for item in file.proto.opset_import if not item.domain]
            file.proto.functions.append(
                helper.make_function(domain, names[key], inputs, outputs, [inner, body], opsets)
            )
        node.op_type, node.domain = names[key], domain
        del node.attribute[:]
    if names:
        file.proto.opset_import.add(domain=domain, version=1)


def branches(file: File) -> None:
    """A layer within an If that captures its weights, which others may read as well."""
    able = [i for i, node in enumerate(file.graph.node) if node.op_type in ("Conv", "Gemm", "Relu") and not node.domain]
    if not able:
        return
    at = able[file.random.integers(len(able))]
    node = file.graph.node[at]
    bodies = []
    for word in ("then", "else"):
        inner = onnx.NodeProto()
        inner.CopyFrom(node)
        inner.output[0] = file.name(word)
        bodies.append(helper.make_graph([inner], word, [], [onnx.ValueInfoProto(name=inner.output[0])]))
        code = file.graph.output[0].type.tensor_type.elem_type
        kind = helper.make_tensor_value_info(inner.output[0], code, None)
        bodies[-1].output[0].CopyFrom(kind)
    condition = file.add(np.array(True), "flag")
    made = helper.make_node("If", [condition], node.output, "branch", then_branch=bodies[0], else_branch=bodies[1])
    file.graph.node[at].CopyFrom(made)


def computed_sizes(file: File) -> None:
    """Flatten as PyTorch's `x.view(x.size(0), -1)` is written."""
    for at in reversed(range(len(file.graph.node))):
        node = file.graph.node[at]
        if node.op_type != "Flatten":
            continue
        names = [file.name(word) for word in ("shape", "n", "n1", "target")]
        zero, axes, rest = (file.add(np.array(v, np.int64)) for v in (0, [0], [-1]))
        steps = [
            helper.make_node("Shape", [node.input[0]], [names[0]]),
            helper.make_node("Gather", [names[0], zero], [names[1]]),
            helper.make_node("Unsqueeze", [names[1], axes], [names[2]]),
            helper.make_node("Concat", [names[2], rest], [names[3]], axis=0),
            helper.make_node("Reshape", [node.input[0], names[3]], list(node.output)),
        ]
        del file.graph.node[at]
        for step in reversed(steps):
            file.graph.node.insert(at, step)


def free_sizes(file: File) -> None:
    """Height and width are free, where nothing in the network fixes them."""
    dims = file.graph.input[0].type.tensor_type.shape.dim
    global_pool = any(node.op_type == "GlobalAveragePool" for node in file.graph.node)
    fixed = any(node.op_type in ("Reshape", "Resize") for node in file.graph.node)
    if len(dims) == 4 and global_pool and not fixed:
        dims[2].dim_param, dims[3].dim_param = "H", "W"


def fixed_batch(file: File) -> None:
    """As PyTorch's exporters write a file by default."""
    dims = file.graph.input[0].type.tensor_type.shape.dim
    for dim in dims:
        if dim.dim_param == "N":
            dim.dim_value = 1


def data_file(file: File) -> None:
    """Weights beside the file."""
    file.outside = True


def sizes_noted(file: File) -> None:
    """Every value has its size declared."""
    del file.graph.value_info[:]
    try:
        noted = onnx.shape_inference.infer_shapes(file.proto, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return
    file.graph.value_info.extend(noted.graph.value_info)


def sizes_unknown(file: File) -> None:
    """Nothing is said of values."""
    del file.graph.value_info[:]


EARLY: Mapping[str, Callable[[File], None]] = {
    habit.__name__: habit for habit in (free_sizes, computed_sizes, zero_gains, no_biases, tied, fixed_batch)
}
"""What changes the network."""
WEIGHTS: Mapping[str, Callable[[File], None]] = {
    habit.__name__: habit
    for habit in (
        constants, identities, transposes, reshapes, squeezes, concats, slices, splits, casts, arithmetic, quantised,
    )
}  # fmt: skip
"""How weights are written; several may follow each other."""
LATE: Mapping[str, Callable[[File], None]] = {
    habit.__name__: habit
    for habit in (
        half, double, branches, functions, notes, typed, sizes_noted, sizes_unknown, default_input, old_inputs, data_file,
    )
}  # fmt: skip
"""What is done to a file as a whole, in this order."""
