"""How fast this machine trains: measured once a network, remembered, and turned into steps.

So minutes, on a machine that has nothing else to do, become a number of steps that is the same when a job is resumed or
asked for again on this machine, and the same seed gives the same bytes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from search.graph import fuse
from search.graph.execute import shapes as shapes_of
from search.graph.ir import Graph
from search.recover.train import Trainer

TIMED_STEPS = 4


@dataclasses.dataclass(frozen=True)
class Pace:
    """Of the dense network's training."""

    setup_s: float
    """Compiling a step."""
    step_s: float
    macs: int
    """Of the dense network, one sample."""

    def steps(self, seconds: float, macs: int, *, compiled: bool) -> int:
        """Steps that fit, for a network of so many multiply-accumulates; training time falls with them."""
        left = seconds - (0.0 if compiled else self.setup_s)
        return max(0, int(left / (self.step_s * macs / max(1, self.macs))))


def macs_of(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Multiply-accumulates of one sample; ``shapes`` of the inputs at batch 1."""
    found, static = shapes_of(graph, shapes)
    return sum(kernel.macs for kernel in fuse.workloads(graph, found, static))


def pace(trainer: Trainer, path: Path) -> Pace:
    """Read what was measured before, or time a few steps of the dense network and keep the result at ``path``."""
    if path.exists():
        return Pace(**json.loads(path.read_text(encoding="utf-8")))
    dense = trainer.teacher.graph
    student, batch = trainer.student(dense), trainer.batches()
    params = student.start()
    state = student.optimiser.init(params)
    times_s = []
    for step in range(1 + TIMED_STEPS):
        start = _busy_s()
        params, state, loss = student.step(params, state, batch(step), trainer.weights, np.float32(0), student.masks)
        float(loss)  # waits for the step
        times_s.append(_busy_s() - start)
    step_s = float(np.median(times_s[1:]))
    inputs = {info.name: trainer.shapes[info.name] for info in dense.inputs}
    found = Pace(max(0.0, times_s[0] - step_s), step_s, macs_of(dense, inputs))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dataclasses.asdict(found)), encoding="utf-8")
    return found


def _busy_s() -> float:
    """Seconds that this process kept the machine busy: on a CPU its share of all cores, whatever else runs there."""
    if jax.default_backend() != "cpu":
        return time.monotonic()
    return time.process_time() / len(os.sched_getaffinity(0))
