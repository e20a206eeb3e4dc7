"""Torch-Pruning on a CIFAR ResNet, at the speed-ups at which `tests.benchmarks.recovery` judges ours, judged by the same code.

    python -m tests.benchmarks.peer --shared DIR --torch PYTHON [--model resnet20] [--seconds 600]

PYTHON is one that has torch 2.13 and torch-pruning 1.6.1. Both sides start from the exactly rewritten dense network
(shortcuts as 1x1 convolutions, no speed-up is claimed for that). For each speed-up the peer gets, of all its ratios and
roundings of widths, the network with most multiply-accumulates that reaches it in ONNX Runtime; batch norm is recalibrated.
Its criterion and its learning rate are those that come furthest, on images kept aside, in an eighth of the time, which is
not counted; then the point is trained for ``--seconds`` of CPU time. Files are kept under ``--out`` and not made again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from search.graph.onnx.read import load
from search.graph.onnx.write import export
from search.judge.sessions import Session
from search.measure.benchmark import measure_interleaved
from search.space.plan import Knobs
from search.train.pace import macs_of
from tests.benchmarks.recovery import SPEEDUPS, images, input_name

CRITERIA = ("magnitude", "taylor")
RATIOS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
ROUNDINGS = (1, 8, 16)
RATES = (0.002, 0.005, 0.02)
PROBE_SHARE = 1 / 8


class Choice(NamedTuple):
    """What the peer is asked for."""

    ratio: float
    """Share of every width that goes."""
    round_to: int
    """Widths are rounded down to multiples."""


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

    def point(self, criterion: str, choice: Choice, seconds: float, rate: float) -> Path:
        """The file of one point; made once."""
        path = self.folder / f"{criterion}-{choice.ratio:g}-{choice.round_to}-{seconds:g}-{rate:g}.onnx"
        if not path.exists():
            script = Path(__file__).with_name("peer_torch.py")
            options = [criterion, *map(str, choice), str(seconds), str(rate)]
            command = [self.python, str(script), str(self.folder), *options]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return path

    def best(self, choice: Choice, seconds: float, rates: Iterable[float]) -> tuple[str, float]:
        """The criterion and the learning rate that come furthest in a short course."""

        def loss(way: tuple[str, float]) -> float:
            probe = self.point(way[0], choice, PROBE_SHARE * seconds, way[1])
            return float(json.loads(probe.with_suffix(".json").read_text())["loss"])

        return min(itertools.product(CRITERIA, rates), key=loss)

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


def macs(path: Path) -> int:
    """Multiply-accumulates of a file, for one sample."""
    graph = load(path.read_bytes())
    return macs_of(graph, {graph.inputs[0].name: (1, 3, 32, 32)})


def main() -> None:
    """Find the networks, train, print a row a speed-up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--torch", required=True, help="a Python with torch and torch-pruning")
    parser.add_argument("--model", default="resnet20", choices=("resnet20", "resnet32"))
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--speedup", nargs="+", type=float, default=SPEEDUPS)
    parser.add_argument("--out", type=Path, default=Path("out/peer"))
    arguments = parser.parse_args()
    peer = Peer(arguments.torch, arguments.shared, arguments.model, arguments.out / arguments.model)
    dense = peer.accuracies(peer.dense)
    choices = list(itertools.starmap(Choice, itertools.product(RATIOS, ROUNDINGS)))
    files = [peer.point("magnitude", choice, 0, 0) for choice in choices]
    found = list(zip(choices, peer.speedups(files), map(macs, files), strict=True))
    for choice, speedup, size in found:
        print(
            f"ratio {choice.ratio:g} in steps of {choice.round_to}: {size / macs(peer.dense):.2f} MACs, {speedup:.2f}x"
        )
    rates: Iterable[float] = RATES
    for wanted in arguments.speedup:
        reached = [(size, choice, speedup) for choice, speedup, size in found if speedup >= wanted]
        if not reached:
            print(f"{wanted}x: no choice reaches it")
            continue
        _, choice, speedup = max(reached)
        criterion, rate = peer.best(choice, arguments.seconds, rates)
        rates = (rate,)  # of the first speed-up, for all
        for seconds in (0.0, arguments.seconds):
            hits = peer.accuracies(peer.point(criterion, choice, seconds, rate if seconds else 0))
            change = " / ".join(f"{hits[key] - dense[key]:+.1f}" for key in dense)
            print(f"{speedup:.2f}x, {choice}, {criterion}, {seconds:g} s at rate {rate:g}: {change}", flush=True)


if __name__ == "__main__":
    main()
