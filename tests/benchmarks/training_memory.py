"""Memory of a gradient: what it adds to the largest memory of a fresh process, ours and torch's, in MiB.

    python -m tests.benchmarks.training_memory --torch PYTHON [--batch 128]

PYTHON is one that has torch 2.13 and onnx. Ours is also given with compiling, which a run pays once a shape, and with
activations computed twice, as a job does where a batch would not fit.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

from search.__main__ import keep_freed_memory
from search.graph.onnx import read
from search.graph.run import execute
from tests.benchmarks.engine_throughput import SIZES, Torch, gradient_of


def largest_mib() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ours(path: Path, batch: int, *, sparing: bool) -> tuple[float, float]:
    """MiB that three gradients add to what the process had before compiling, and after it."""
    graph = read.load(path.read_bytes())
    gradient, parameters = gradient_of(graph, sparing=sparing)
    size = SIZES[path.stem]
    x = np.random.default_rng(0).standard_normal((batch, 3, size, size)).astype(np.float32)
    execute.Engine(graph, batch=1)  # what the library itself takes on first use
    jax.block_until_ready(jax.jit(lambda a: a * 2)(x))  # type: ignore[no-untyped-call]
    before = largest_mib()
    compiled = jax.jit(gradient).lower(parameters, x).compile()
    after = largest_mib()
    for _ in range(3):
        jax.block_until_ready(compiled(parameters, x))  # type: ignore[no-untyped-call]
    return largest_mib() - before, largest_mib() - after


def main() -> None:
    """A row a network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", help="a Python with torch 2.13 and onnx")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--sparing", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        keep_freed_memory()
        print(*ours(options.child, options.batch, sparing=options.sparing))
        return
    with tempfile.TemporaryDirectory() as folder:
        Torch(options.torch, folder).close()
        for name in SIZES:
            child = ["--child", f"{folder}/{name}.onnx", "--batch", str(options.batch)]
            mine = run(sys.executable, "-m", "tests.benchmarks.training_memory", *child)
            twice = run(sys.executable, "-m", "tests.benchmarks.training_memory", *child, "--sparing")
            script = Path(__file__).with_name("throughput_networks.py")
            theirs = run(options.torch, "-W", "ignore", str(script), folder, name, str(options.batch))
            print(
                f"{name:12} ours {mine[0]:6.0f} (compiling apart {mine[1]:6.0f})   activations twice {twice[0]:6.0f} "
                f"({twice[1]:6.0f})   torch {theirs[0]:6.0f} MiB",
                flush=True,
            )


def run(*command: str) -> list[float]:
    """The figures that a command prints."""
    return [float(word) for word in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]


if __name__ == "__main__":
    main()
