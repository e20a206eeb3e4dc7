"""Images a second of our engine on one thread, beside ONNX Runtime (forward) and torch (gradient).

    taskset -c 0 python -m tests.benchmarks.engine_throughput --torch PYTHON [--batch 32] [--rounds 15] [name]

PYTHON is one that has torch 2.13; it exports the networks and times their gradients in a process of its own. Both sides
take turns on the same core, the clock is CPU time, and a ratio is the median over rounds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from search.__main__ import keep_freed_memory
from search.graph.ir import Graph
from search.graph.onnx import read
from search.graph.run import execute
from search.graph.run.segments import checkpointed
from search.measure.benchmark import open_session

SIZES = {"ResNet-56": 32, "MobileNetV2": 64, "ResNet-18": 64}
BARS = {"ResNet-56": 0.6, "MobileNetV2": 0.4, "ResNet-18": 0.8}
GRADIENT_BAR = 0.7
ROUND_S = 0.25
"""A turn repeats its side for about this long."""


class Torch:
    """The other process: exports on start, then times gradients when asked."""

    def __init__(self, python: str, folder: str) -> None:
        """Start and wait for the exports."""
        script = Path(__file__).with_name("throughput_networks.py")
        self.process = subprocess.Popen(
            [python, "-W", "ignore", str(script), folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        while (line := self._read().strip()) != "ready":
            print(line)

    def _read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the torch process ended; does its Python have torch and onnx?")
        return line

    def gradient_s(self, name: str, batch: int, calls: int) -> float:
        """CPU seconds of one gradient."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{name} {batch} {calls}\n")
        self.process.stdin.flush()
        return float(self._read())

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def cpu_s(call: Callable[[], Any]) -> float:
    """CPU seconds of one call, over about `ROUND_S`."""
    call()
    start, calls = time.process_time(), 0
    while time.process_time() - start < ROUND_S:
        call()
        calls += 1
    return (time.process_time() - start) / calls


def forward_s(data: bytes, x: np.ndarray[Any, Any], rounds: int) -> np.ndarray[Any, Any]:
    """(rounds, 2): CPU seconds of a batch, ours and ONNX Runtime's."""
    graph = read.load(data)
    engine = execute.Engine(graph, batch=len(x))
    parameters = execute.pack(graph, {name: graph.initializers[name] for name in execute.trainable(graph)})
    session = open_session(data)
    sides = (lambda: engine(parameters, {"x": x}), lambda: session.run(None, {"x": x}))
    ours, theirs = sides[0]()[0], np.asarray(sides[1]()[0])
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()
    return np.array([[cpu_s(side) for side in sides] for _ in range(rounds)])


def gradient_s(
    data: bytes, x: np.ndarray[Any, Any], rounds: int, theirs: Callable[[int], float]
) -> np.ndarray[Any, Any]:
    """(rounds, 2): CPU seconds of the gradient of all weights on a batch, ours and torch's."""
    function, parameters = gradient_of(read.load(data))
    gradient = jax.jit(function)

    def ours() -> Any:
        return jax.block_until_ready(gradient(parameters, x))  # type: ignore[no-untyped-call]

    calls = max(1, round(ROUND_S / theirs(1)))
    return np.array([[cpu_s(ours), theirs(calls)] for _ in range(rounds)])


def gradient_of(graph: Graph, *, sparing: bool = False) -> tuple[Callable[..., Any], Mapping[str, jax.Array]]:
    """(parameters, images) to the gradient of the sum of squares of the first output, and the parameters.

    With ``sparing`` activations are computed twice instead of being kept.
    """
    run = (checkpointed if sparing else execute.forward)(graph, outputs=[graph.outputs[0].name])

    def loss(parameters: Mapping[str, jax.Array], image: jax.Array) -> jax.Array:
        total: jax.Array = (run(execute.unpack(graph, parameters), {"x": image})[0] ** 2).sum()
        return total

    parameters = execute.pack(graph, {name: graph.initializers[name] for name in execute.trainable(graph)}).arrays
    return jax.grad(loss), parameters


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="")
    parser.add_argument("--torch", required=True, help="a Python with torch 2.13 and onnx")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        torch = Torch(options.torch, folder)
        print(
            f"{'network':12} {'forward/s':>10} {'ORT':>6} {'ratio':>6} {'bar':>4} {'gradient/s':>11} {'torch':>6} ratio  bar"
        )
        for name in (name for name in SIZES if options.name in name):
            data = Path(folder, f"{name}.onnx").read_bytes()
            x = (
                np.random.default_rng(0)
                .standard_normal((options.batch, 3, SIZES[name], SIZES[name]))
                .astype(np.float32)
            )
            forward = forward_s(data, x, options.rounds)
            gradient = gradient_s(data, x, options.rounds, lambda calls: torch.gradient_s(name, options.batch, calls))  # noqa: B023
            cells = []
            for seconds, bar, widths in ((forward, BARS[name], (10, 6)), (gradient, GRADIENT_BAR, (11, 6))):
                ours, theirs = options.batch / np.median(seconds, axis=0)
                ratio = float(np.median(seconds[:, 1] / seconds[:, 0]))
                cells.append(f"{ours:{widths[0]}.0f} {theirs:{widths[1]}.0f} {ratio:6.2f} {bar:4}")
            print(f"{name:12} {' '.join(cells)}", flush=True)
        torch.close()


if __name__ == "__main__":
    main()
