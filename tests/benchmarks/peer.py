"""Torch-Pruning on a CIFAR ResNet, at the speed-ups at which `tests.benchmarks.recovery` judges ours, judged by the same code.

    python -m tests.benchmarks.peer --shared DIR --torch PYTHON [--model resnet20] [--criterion magnitude] [--seconds 0 1200]

PYTHON is one that has torch 2.13 and torch-pruning 1.6.1. Both sides start from the exactly rewritten dense network
(shortcuts as 1x1 convolutions, no speed-up is claimed for that). For each speed-up the least pruning ratio that reaches it
in ONNX Runtime is taken; then the point is trained for ``--seconds`` of CPU time, with batch norm recalibrated before. Its
learning rate is the best of `RATES` after an eighth of that time each, which does not count, on images kept aside.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

import numpy as np

from search.evaluate.benchmark import measure_interleaved
from search.evaluate.parity import Session
from search.graph.onnx_export import export
from search.graph.onnx_import import load
from search.plan import Knobs
from tests.benchmarks.recovery import SPEEDUPS, images, input_name

RATIOS = (0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
RATES = (0.005, 0.02, 0.08)
PROBE_SHARE = 1 / 8


class Peer:
    """The peer's process and the judge of its files."""

    def __init__(self, python: str, shared: Path, model: str, folder: Path) -> None:
        """Write what both sides share."""
        self.python, self.folder = python, folder
        folder.mkdir(parents=True, exist_ok=True)
        x, y = images(shared, "train20k")
        self.sets = {name: images(shared, f"test_{name}") for name in ("dev500", "jpeg4k")}
        graph = load((shared / "models" / f"{model}.onnx").read_bytes())
        rewritten = Knobs(graph, {graph.inputs[0].name: (1, *x.shape[1:])}).graph
        self.dense = folder / "dense.onnx"
        self.dense.write_bytes(export(rewritten))
        np.savez(folder / "train.npz", x=x, y=y)

    def point(self, criterion: str, ratio: float, seconds: float, rate: float) -> Path:
        """The file of one point; made once."""
        path = self.folder / f"{criterion}-{ratio:g}-{seconds:g}-{rate:g}.onnx"
        if not path.exists():
            script = Path(__file__).with_name("peer_torch.py")
            command = [self.python, str(script), str(self.folder), criterion, str(ratio), str(seconds), str(rate)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return path

    def rate(self, criterion: str, ratio: float, seconds: float) -> float:
        """The learning rate that came furthest in a short course."""

        def loss(rate: float) -> float:
            probe = self.point(criterion, ratio, PROBE_SHARE * seconds, rate)
            return float(json.loads(probe.with_suffix(".json").read_text())["loss"])

        return min(RATES, key=loss) if seconds else 0.0

    def speedups(self, paths: list[Path]) -> list[float]:
        """Against the dense network, one thread, batch 1, in turn."""
        images_ = self.sets["dev500"][0][:1]
        files = [path.read_bytes() for path in (self.dense, *paths)]
        timings = measure_interleaved(files, {input_name(files[0]): images_}, rounds=40, threads=1)
        return [timing.speedup for timing in timings[1:]]

    def accuracies(self, path: Path) -> dict[str, float]:
        """Per cent of hits on both test sets."""
        session, name = Session(path.read_bytes()), input_name(path.read_bytes())
        return {key: 100 * float((session({name: x})[0].argmax(1) == y).mean()) for key, (x, y) in self.sets.items()}


def main() -> None:
    """Find the ratios, train, print a row a point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--torch", required=True, help="a Python with torch and torch-pruning")
    parser.add_argument("--model", default="resnet20", choices=("resnet20", "resnet32"))
    parser.add_argument("--criterion", nargs="+", default=["magnitude", "taylor"])
    parser.add_argument("--seconds", nargs="+", type=float, default=[0, 1200])
    parser.add_argument("--speedup", nargs="+", type=float, default=SPEEDUPS)
    parser.add_argument("--out", type=Path, default=Path("out/peer"))
    arguments = parser.parse_args()
    peer = Peer(arguments.torch, arguments.shared, arguments.model, arguments.out / arguments.model)
    dense = peer.accuracies(peer.dense)
    for criterion in arguments.criterion:
        found = peer.speedups([peer.point(criterion, ratio, 0, 0) for ratio in RATIOS])
        print(criterion, " ".join(f"{ratio:g}: {speed:.2f}x" for ratio, speed in zip(RATIOS, found, strict=True)))
        for wanted in arguments.speedup:
            reached = [ratio for ratio, speed in zip(RATIOS, found, strict=True) if speed >= wanted]
            if not reached:
                print(f"  {wanted}x: no ratio reaches it")
            for seconds in arguments.seconds if reached else ():
                rate = peer.rate(criterion, reached[0], seconds)
                hits = peer.accuracies(peer.point(criterion, reached[0], seconds, rate))
                change = " / ".join(f"{hits[key] - dense[key]:+.1f}" for key in dense)
                print(
                    f"  {wanted}x: ratio {reached[0]:g}, {seconds:g} s of training at rate {rate:g}: {change}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
