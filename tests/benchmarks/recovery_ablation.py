"""What each stage of recovery contributes: one pruned ResNet-20, every stage switched off in turn.

    python -m tests.benchmarks.recovery_ablation --shared DIR [--steps 400] [--seeds 1]

DIR holds ``models/resnet20.onnx`` and ``data/cifar10_*.npz``. The plan is fixed, so that rows differ in recovery alone: the
inner width of every block of the second and third stage is halved and the second block is dropped. Every row that trains
takes the same steps on the same samples. Change of accuracy against dense, on 500 clean images and 4,000 that went through
JPEG. Rows that are done are kept in ``--out``. The last rows have no data at all: synthetic images in every place of real ones.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from search.criteria import CRITERIA
from search.criteria.base import Evidence
from search.graph.ir import Array, Graph
from search.graph.onnx.read import load
from search.graph.onnx.write import export
from search.input.data import SYNTHETIC_SAMPLES, Part, synthetic
from search.judge.dense import understood
from search.judge.sessions import Session
from search.repair.datafree import synthesise
from search.repair.least_squares import Repairer
from search.space.blocks import DROPPED
from search.space.plan import Candidate, Knobs, Plan
from search.space.surgery import mask
from search.train.augment import suited
from search.train.deployed import cut_graph
from search.train.descent import Course
from search.train.minutes import learning_rate
from search.train.trainer import MOST_OF_LABELS, Trainer
from tests.benchmarks.recovery import images

ROWS: dict[str, tuple[bool, dict[str, float] | None]] = {
    "nothing": (False, None),
    "repair": (True, None),
    "all": (True, {}),
    "all but repair": (False, {}),
    "all but inner values": (True, {"values": 0.0}),
    "all but distillation": (True, {"answers": 0.0}),
    "all but labels": (True, {"labels": 0.0}),
    "labels at their most": (True, {"labels": MOST_OF_LABELS}),
    "labels alone": (True, {"answers": 0.0, "values": 0.0, "labels": 1.0}),
    "repair, no data": (True, None),
    "all but labels, no data": (True, {"labels": 0.0}),
}
"""Name to whether the start is repaired, and what is changed in the weights of training's terms, None without training."""
NO_DATA = ("repair, no data", "all but labels, no data")


class Experiment:
    """One seed: data divided, the network calibrated."""

    def __init__(self, shared: Path, seed: int, *, real: bool = True) -> None:
        """Repair once, open the teacher; all on synthetic images where there are no ``real`` ones."""
        rng = np.random.default_rng(seed)
        graph = load((shared / "models" / "resnet20.onnx").read_bytes())
        if real:
            x, y = images(shared, "train20k")
            part = Part({graph.inputs[0].name: x}, y).take(rng.permutation(len(x)))
        else:
            part = Part(synthesise(graph, synthetic(graph, SYNTHETIC_SAMPLES, rng).feeds, rng), None)
        part = understood(part, graph)
        augmentation = suited(graph, part, rng)
        judged = min(512, len(part) // 5)
        self.search, self.train = augmentation.of(part.take(slice(judged)), rng), part.take(slice(judged, None))
        self.knobs = Knobs(graph, {graph.inputs[0].name: (1, 3, 32, 32)})
        calibration = self.train.take(slice(512))
        self.repairer = Repairer(graph, self.knobs.groups, calibration.feeds, rng=rng, blocks=self.knobs.blocks)
        self.knobs.stand_ins = self.repairer.stand_ins
        evidence = Evidence(
            graph, self.knobs.groups, self.repairer.targets, calibration.feeds, calibration.labels, seed
        )
        self.orders = {g.id: CRITERIA["obs"](g, evidence) for g in self.knobs.groups.prunable}
        shapes = self.knobs.groups.shapes
        self.trainer = Trainer(graph, shapes, self.train, self.search, seed=seed, augmentation=augmentation, real=real)
        self.sets = {name: images(shared, f"test_{name}") for name in ("dev500", "jpeg4k")}

    @property
    def plan(self) -> Plan:
        """Half of every group inside the later blocks; no second block."""
        late = [group for element in self.knobs.elements[-6:] for group in element.groups]
        return {**{group.id: len(group) // 2 for group in late}, self.knobs.blocks[1].id: DROPPED}

    def result(self, row: str, steps: int) -> dict[str, float]:
        """Per cent of hits on both test sets."""
        repaired, changes = ROWS[row]
        variant = self.knobs.variant(self.plan)
        keep = self.knobs.keep(self.plan, self.orders, variant)
        params = (
            self.repairer.repair(keep, variant) if repaired else mask(variant.graph.initializers, variant.groups, keep)
        )
        graph = cut_graph(Candidate(self.plan, variant, keep, params, 0.0, "obs"))
        if changes is not None:
            weights = self.trainer.weights._replace(**changes)
            course = Course(steps, learning_rate(self.trainer.judge(graph)({})), weights)
            outcome = self.trainer.run(self.trainer.student(graph), course)
            graph = graph.with_initializers(outcome.params)
        return self.accuracy(graph)

    def accuracy(self, graph: Graph) -> dict[str, float]:
        """Per cent of hits on both test sets."""
        session, name = Session(export(graph)), graph.inputs[0].name
        return {key: _hits(session({name: x})[0], y) for key, (x, y) in self.sets.items()}


def _hits(scores: Array, labels: Array) -> float:
    return 100 * float((scores.argmax(1) == labels).mean())


def main() -> None:
    """Run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out/recovery_ablation.json"))
    arguments = parser.parse_args()
    known: dict[str, dict[str, float]] = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    for seed in range(arguments.seeds):
        made: dict[bool, Experiment] = {}
        for row in ("dense", *ROWS):
            key = f"{row}, {arguments.steps} steps, seed {seed}"
            if key not in known:
                real = row not in NO_DATA
                if real not in made:
                    made[real] = Experiment(arguments.shared, seed, real=real)
                dense = row == "dense"
                known[key] = (
                    made[real].accuracy(made[real].knobs.graph) if dense else made[real].result(row, arguments.steps)
                )
                arguments.out.parent.mkdir(parents=True, exist_ok=True)
                arguments.out.write_text(json.dumps(known, indent=1))
            whole = known[f"dense, {arguments.steps} steps, seed {seed}"]
            change = {name: known[key][name] - whole[name] for name in whole}
            print(f"seed {seed}  {row:24} clean-500 {change['dev500']:+6.1f}   JPEG {change['jpeg4k']:+6.1f}")


if __name__ == "__main__":
    main()
