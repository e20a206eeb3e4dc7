"""Whether our measured speed-ups agree with a plain script: ONNX Runtime alone, two models in turn, thread CPU time.

    python -m tests.benchmarks.timing_agreement DENSE.onnx [PRUNED.onnx ...]

Without pruned files, residual networks of random narrower widths are made;
the dense file should then be a ResNet-20. Prints both speed-ups and how far they differ.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

from search.measure.benchmark import measure_interleaved, open_session
from tests.benchmarks.host_latency import cifar_resnet

CALLS = 400


def plain_speedup(dense: bytes | Path, pruned: bytes | Path, inputs: dict[str, np.ndarray], burst: int) -> float:
    """Median seconds of ``dense`` over median seconds of ``pruned``, ``burst`` calls of each in turn."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    sessions = [
        ort.InferenceSession(
            model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
        )
        for model in (dense, pruned)
    ]
    feeds = [{argument.name: inputs[argument.name] for argument in session.get_inputs()} for session in sessions]
    seconds: list[list[float]] = [[], []]
    for _ in range(CALLS // burst):
        for model, session in enumerate(sessions):
            for _ in range(burst):
                start = time.thread_time()
                session.run(None, feeds[model])
                seconds[model].append(time.thread_time() - start)
    return float(np.median(seconds[0]) / np.median(seconds[1]))


def main() -> None:
    """Compare the two ways of timing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    models: list[bytes | Path] = list(options.models)
    if len(models) == 1:
        models += [cifar_resnet(np.random.default_rng(seed), blocks=3).build("narrow").model for seed in range(4)]
    inputs: dict[str, np.ndarray] = {}
    for model in models:
        for argument in open_session(model).get_inputs():
            shape = [size if isinstance(size, int) else 1 for size in argument.shape]
            inputs[argument.name] = rng.standard_normal(shape).astype(np.float32)
    ours = measure_interleaved(models, inputs, rounds=60)
    print("model       ms    ours  plain, 1 a turn  plain, 10 a turn")
    for index, (model, timing) in enumerate(zip(models[1:], ours[1:], strict=True), start=1):
        one, ten = (plain_speedup(models[0], model, inputs, burst) for burst in (1, 10))
        print(
            f"{index:5}{timing.median_s * 1e3:9.3f}{timing.speedup:8.3f}{one:9.3f} ({timing.speedup / one - 1:+.0%})"
            f"{ten:10.3f} ({timing.speedup / ten - 1:+.0%})"
        )


if __name__ == "__main__":
    main()
