"""Whether a runtime of this machine gains from zeros: a network with ever more of its weights set to zero, timed in turn.

    python -m tests.benchmarks.zeros [--runtime litert]

Two networks: a ResNet-18, and a MobileNetV2, which is made of the 1x1 convolutions that XNNPACK's sparse kernels are for where
they are switched on. For LiteRT weights of more than two thirds of zeros are stored sparse as well, with a DENSIFY operator,
as its converter does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from search.formats import FORMATS
from search.graph.onnx.traced import Traced, trace
from search.measure.benchmark import take_turns, timings
from search.measure.calibrate.builder import MicroNetwork
from search.measure.runtimes import RUNTIMES, random_call, random_input, runtime
from search.measure.runtimes.base import Call
from tests.benchmarks.host_latency import mobilenetv2, resnet18
from tests.benchmarks.sparse_litert import SPARSE_FROM, sparse_file

Weights = NDArray[np.float32]


def unstructured(weights: Weights, share: float) -> Weights:
    """The smallest ``share`` of the weights set to zero."""
    return np.where(np.abs(weights) <= np.quantile(np.abs(weights), share), np.float32(0), weights)


def two_of_four(weights: Weights, _share: float) -> Weights:
    """The two smaller of every four weights set to zero."""
    if weights.size % 4:
        return weights
    fours = np.abs(weights).reshape(-1, 4)
    small = np.argsort(fours, axis=1)[:, :2]
    kept = weights.reshape(-1, 4).copy()
    np.put_along_axis(kept, small, np.float32(0), axis=1)
    return kept.reshape(weights.shape)


def blocks(weights: Weights, share: float) -> Weights:
    """A ``share`` of the output channels' 16 x 1 blocks set to zero."""
    if weights.shape[0] % 16:
        return weights
    rows = weights.reshape(weights.shape[0] // 16, 16, -1).copy()
    drop = np.random.default_rng(0).random((rows.shape[0], 1, rows.shape[2])) < share
    return np.where(drop, np.float32(0), rows).reshape(weights.shape)


def with_zeros(model: bytes, pattern: Callable[[Weights, float], Weights], share: float) -> bytes:
    """``model`` with ``pattern`` applied to every kernel that it fits."""
    proto = onnx.load_from_string(model)
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim == 4:
            tensor.CopyFrom(numpy_helper.from_array(pattern(values, share), tensor.name))
    return bytes(proto.SerializeToString())


VARIANTS = [
    ("dense", unstructured, 0.0),
    *[("unstructured", unstructured, share) for share in (0.5, 0.7, 0.9, 0.95)],
    ("2:4", two_of_four, 0.5),
    *[("blocks of 16", blocks, share) for share in (0.5, 0.9)],
]


def _sparse_call(network: Traced) -> Call:
    """Of a LiteRT file that stores zeros as such, on random input."""
    [info] = network.graph.inputs
    feeds = {info.name: FORMATS["tflite"].given(random_input(network.shapes[info.name]))}
    return RUNTIMES["litert"].call(sparse_file(network), feeds, 1)


def print_times(dense: MicroNetwork, runtime_name: str) -> None:
    """The time of each variant relative to the dense one."""
    rows = []
    for name, pattern, share in VARIANTS:
        network = trace(dense.model if name == "dense" else with_zeros(dense.model, pattern, share))
        rows.append((name, share, random_call(runtime(runtime_name), network, 1)))
        if runtime_name == "litert" and name == "unstructured" and share > SPARSE_FROM:
            rows.append((f"{name}, stored sparse", share, _sparse_call(network)))
    for (name, share, _), timing in zip(
        rows, timings(take_turns([call for _, _, call in rows], rounds=40)), strict=True
    ):
        print(f"{name:30}{share:6.0%}{timing.ratio:8.3f} of dense ({timing.ratio_low:.3f} to {timing.ratio_high:.3f})")


def main() -> None:
    """Both networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtime", choices=list(RUNTIMES), default="onnxruntime")
    runtime_name = parser.parse_args().runtime
    for build in (resnet18, mobilenetv2):
        print(f"{build.__name__} in {RUNTIMES[runtime_name].title} {RUNTIMES[runtime_name].version()}")
        print_times(build(np.random.default_rng(0)).build("dense"), runtime_name)


if __name__ == "__main__":
    main()
