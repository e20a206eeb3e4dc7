"""Small networks whose world is known: as many new samples as one likes, so that the truth can be measured.

Pictures are smooth patterns, one a class, moved about, with noise. A network is two random convolutions and a last layer fitted
in closed form, which takes seconds, needs no training, and is too wide for its task.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]
CLASSES, SIZE, WIDTH = 6, 8, 48
FITTED_TO = 6_000
RIDGE = 1e-3


@dataclasses.dataclass(frozen=True)
class World:
    """Where samples come from: ``labels`` are classes, or three targets that hang on them and on the picture."""

    seed: int
    values: bool
    """Whether the targets are numbers."""
    noise: float = 1.8

    def samples(self, count: int, draw: int) -> tuple[Array, Array]:
        """Pictures (count, 3, 8, 8) and labels; another ``draw``, other samples."""
        rng = np.random.default_rng((self.seed, draw))
        patterns = self._patterns()
        classes = rng.integers(0, CLASSES, count)
        moved = rng.integers(-1, 2, (count, 2))
        clean = np.stack([np.roll(patterns[k], tuple(by), (1, 2)) for k, by in zip(classes, moved, strict=True)])
        strength = rng.uniform(0.6, 1.4, (count, 1, 1, 1))
        x = (strength * clean + self.noise * rng.normal(size=clean.shape)).astype(np.float32)
        if not self.values:
            return x, classes.astype(np.int64)
        targets = np.stack([strength[:, 0, 0, 0], classes == 0, np.exp(strength[:, 0, 0, 0]) * (classes % 2)], 1)
        return x, (targets * [1.0, 5.0, 20.0]).astype(np.float32)

    def _patterns(self) -> Array:
        rough = np.random.default_rng((self.seed, 10**6)).normal(size=(CLASSES, 3, 4, 4))
        return np.asarray(rough.repeat(2, 2).repeat(2, 3))


def network(world: World) -> bytes:
    """An ONNX classifier or regressor of a world."""
    rng = np.random.default_rng((world.seed, 2))
    weights = {
        "w0": rng.normal(size=(WIDTH, 3, 3, 3)) / np.sqrt(27),
        "b0": rng.normal(size=WIDTH) * 0.1,
        "w1": rng.normal(size=(WIDTH, WIDTH, 3, 3)) / np.sqrt(9 * WIDTH / 2),
        "b1": rng.normal(size=WIDTH) * 0.1,
    }
    outputs = 3 if world.values else CLASSES
    features = 16 * WIDTH
    blank = {**weights, "w2": np.eye(features), "b2": np.zeros(features)}
    x, y = world.samples(FITTED_TO, 1)
    seen = run(_written(blank), x)
    target = y.astype(float) if world.values else np.eye(CLASSES)[y]
    centre, mean = seen.mean(0), target.mean(0)
    gram = (seen - centre).T @ (seen - centre) / len(x)
    found = np.linalg.solve(
        gram + RIDGE * np.trace(gram) / features * np.eye(features) * 30, (seen - centre).T @ (target - mean) / len(x)
    )
    assert found.shape == (features, outputs)
    return _written({**weights, "w2": found.T, "b2": mean - centre @ found})


def _written(weights: dict[str, Array]) -> bytes:
    conv = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], name="conv0", **conv),
        helper.make_node("Relu", ["c0"], ["r0"], name="relu0"),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], name="conv1", strides=[2, 2], **conv),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Flatten", ["r1"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["y"], name="head", transB=1),
    ]
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    kinds = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", ["N", 3, SIZE, SIZE]), ("y", ["N", len(weights["b2"])]))
    ]
    graph = helper.make_graph(nodes, "small", kinds[:1], kinds[1:], tensors)
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )


def run(model: bytes, x: Array) -> Array:
    """Its output in ONNX Runtime, on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"x": part})[0] for part in np.array_split(x, max(1, len(x) // 500))])


def truth(output: Array, dense: Array, y: Array | None) -> float:
    """What accuracy means, from its definition alone: hits, agreement, or the mean over columns of 1 - error / variance."""
    if y is not None and y.ndim == 2:
        return float(np.mean(1 - np.minimum(((output - y) ** 2).mean(0) / y.var(0), 2)))
    return float((output.argmax(1) == (dense.argmax(1) if y is None else y)).mean())
