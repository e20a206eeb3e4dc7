"""Small networks for tests: a builder of ONNX files with random weights, and what ONNX Runtime says of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
ort.set_default_logger_severity(4)


class Net:
    """Adds operators one after another; every method returns the name of the new value."""

    def __init__(self, shape: Sequence[int | str] = ("N", 3, 8, 8), *, seed: int = 0, opset: int = 17) -> None:
        """One float input `x` of the given shape."""
        self.random = np.random.default_rng(seed)
        self.opset = opset
        self.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, Array] = {}
        self.outputs: list[str] = []

    @property
    def last(self) -> str:
        """Name of the newest value."""
        return str(self.nodes[-1].output[0])

    def weight(self, *shape: int, low: float = -1.0, high: float = 1.0) -> str:
        """A uniform initializer, scaled by its fan-in."""
        name = f"w{len(self.initializers)}"
        fan_in = max(1, int(np.prod(shape[1:])))
        value = self.random.uniform(low, high, shape) * (1.5 / np.sqrt(fan_in) if len(shape) > 1 else 1.0)
        self.initializers[name] = value.astype(np.float32)
        return name

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        """An initializer with a given value."""
        name = f"c{len(self.initializers)}"
        self.initializers[name] = np.asarray(value, dtype)
        return name

    def op(self, op: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any) -> str:
        """Any operator; the first output's name. Further outputs are called `<name>_1`, `<name>_2`, ..."""
        name = f"{op.lower()}{len(self.nodes)}"
        names = [name, *(f"{name}_{i}" for i in range(1, outputs))]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"n_{name}", domain=domain, **attributes))
        return name

    def conv(
        self, x: str, c_in: int, c_out: int, k: int = 3, *, groups: int = 1, stride: int = 1, axes: int = 2
    ) -> str:
        """A convolution with bias over so many axes that keeps the size (divided by the stride)."""
        weights = (self.weight(c_out, c_in // groups, *[k] * axes), self.weight(c_out))
        pads, strides = [k // 2] * 2 * axes, [stride] * axes
        return self.op("Conv", x, *weights, kernel_shape=[k] * axes, pads=pads, strides=strides, group=groups)

    def batch_norm(self, x: str, channels: int) -> str:
        """Batch normalisation with statistics away from the trivial ones."""
        scale, mean = self.weight(channels, low=0.5, high=1.5), self.weight(channels)
        return self.op("BatchNormalization", x, scale, self.weight(channels), mean, self.weight(channels, low=0.5))

    def gemm(self, x: str, c_in: int, c_out: int) -> str:
        """A fully connected layer as torch exports it."""
        return self.op("Gemm", x, self.weight(c_out, c_in), self.weight(c_out), transB=1)

    def classifier(self, x: str, channels: int, classes: int = 5) -> str:
        """Global pool, flatten, fully connected."""
        return self.gemm(self.op("Flatten", self.op("GlobalAveragePool", x)), channels, classes)

    def proto(self, *outputs: str) -> onnx.ModelProto:
        """The model; the last value is the output unless others are named."""
        names = outputs or (self.nodes[-1].output[0],)
        graph = helper.make_graph(
            self.nodes,
            "net",
            self.inputs,
            [onnx.ValueInfoProto(name=name) for name in names],
            [numpy_helper.from_array(value, name) for name, value in self.initializers.items()],
        )
        domains = dict.fromkeys(node.domain for node in self.nodes if node.domain)
        opsets = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        model = onnx.shape_inference.infer_shapes(model)
        for output in model.graph.output:
            if not output.type.WhichOneof("value"):  # behind an operator whose types onnx does not know
                output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, ["N", "classes"]))
        return model

    def bytes(self, *outputs: str) -> bytes:
        """The model as a file."""
        return bytes(self.proto(*outputs).SerializeToString())


def run_ort(model: bytes, feeds: Mapping[str, Array]) -> list[Array]:
    """Outputs of ONNX Runtime without its own graph rewrites."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, dict(feeds))]


def relative_error(actual: Sequence[Array], expected: Sequence[Array]) -> float:
    """Largest difference over the largest magnitude, over all outputs."""
    worst = 0.0
    for a, b in zip(actual, expected, strict=True):
        assert a.shape == b.shape, (a.shape, b.shape)
        scale = max(float(np.abs(b).max(initial=0)), 1e-6)
        worst = max(worst, float(np.abs(a.astype(np.float64) - b).max(initial=0)) / scale)
    return worst


def images(*shape: int, seed: int = 1) -> Array:
    """Normal random inputs."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def resnet(*, batch_norm: bool = True) -> Net:
    """Two stages, a residual each, a strided projection between them."""
    net = Net()

    def unit(x: str, c_in: int, c_out: int, k: int = 3, stride: int = 1) -> str:
        y = net.conv(x, c_in, c_out, k, stride=stride)
        return net.batch_norm(y, c_out) if batch_norm else y

    x = net.op("Relu", unit("x", 3, 8))
    y = unit(net.op("Relu", unit(x, 8, 6)), 6, 8)
    x = net.op("Relu", net.op("Add", y, x))
    y = unit(net.op("Relu", unit(x, 8, 12, stride=2)), 12, 12)
    x = net.op("Relu", net.op("Add", y, unit(x, 8, 12, 1, stride=2)))
    net.classifier(x, 12)
    return net
