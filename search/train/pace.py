"""How fast this machine trains: measured once a network, remembered, and turned into steps.

So minutes, on a machine that has nothing else to do, become a number of steps that is the same when a job is resumed or
asked for again on this machine, and the same seed gives the same bytes.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np

from search.graph.ir import Graph
from search.graph.run import fuse
from search.graph.run.execute import shapes as shapes_of
from search.train.descent import CHECKS, ahead
from search.train.loss import Batch
from search.train.trainer import Trainer

TIMED_STEPS = 8
UNDISTURBED = 0.25
"""Quantile of the timed steps: other work on the machine slows some of them, and none runs faster than the machine."""
AT_WORK = 0.85
"""Share of the devices' cores that a course keeps at work on a machine with nothing else to do: 1.70 to 1.78 of two for ResNets.
Single steps keep more, the judgements between them fewer."""
LEAST_SHARE = 0.1
"""Of a step in the time that passes, where making its batch takes longer than the step."""
JUDGEMENTS = CHECKS + 3
"""Of a course: those of the loop, of its start, and of the two networks that it may start from."""

NARROWER = 0.75
"""Exponent from multiply-accumulates to time: half of all widths, a quarter of the products, took 0.36 of a ResNet-20's step."""


@dataclasses.dataclass(frozen=True)
class Pace:
    """Of the dense network's training."""

    setup_s: float
    """Compiling a step, on one core."""
    step_s: float
    """A step beside the making of the next batch; falls with the multiply-accumulates of a pruned network."""
    batch_s: float
    """Making a batch, augmentation and the dense network's answers, on one core, while the step before runs."""
    judgement_s: float
    """A look at the search split, on one core."""
    cores: int
    macs: int
    """Of the dense network, one sample."""

    def steps(self, seconds: float, macs: int, *, compiled: bool) -> int:
        """Steps of a course that fit, with all its judgements, for a network of so many multiply-accumulates."""
        left = seconds - (0.0 if compiled else self.setup_s) - JUDGEMENTS * self.judgement_s * self._share(macs)
        return max(0, int(left / self.seconds_of_step(macs)))

    def seconds_of_step(self, macs: int) -> float:
        """Of a network of so many multiply-accumulates, with its batch."""
        return max(self.batch_s, self.batch_s / self.cores + self.step_s * self._share(macs))

    def _share(self, macs: int) -> float:
        return float((macs / max(1, self.macs)) ** NARROWER)


def macs_of(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Multiply-accumulates of one sample; ``shapes`` of the inputs at batch 1."""
    found, static = shapes_of(graph, shapes)
    return sum(kernel.macs for kernel in fuse.workloads(graph, found, static))


def pace(trainer: Trainer, path: Path) -> Pace:
    """Read what was measured before, or time a few steps of the dense network and keep the result at ``path``."""
    found = _read(path)
    if found is None:
        found = _measure(trainer)
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.with_suffix(f".{os.getpid()}")  # other jobs read the path at the same time
        whole.write_text(json.dumps(dataclasses.asdict(found)), encoding="utf-8")
        whole.replace(path)
    return found


def _read(path: Path) -> Pace | None:
    """What another job, perhaps of another release, wrote; None where that is of no use."""
    try:
        found = Pace(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return found if found.cores == _cores() else None


def _measure(trainer: Trainer) -> Pace:
    dense, batches = trainer.teacher.graph, trainer.batches()
    student = trainer.student(dense)
    params = student.start()
    state = student.optimiser.init(params)

    def train(batch: Batch) -> None:
        nonlocal params, state
        params, state, loss = student.step(params, state, batch, trainer.weights, np.float32(0), student.masks)
        float(loss)  # waits for the step

    steps = 1 + TIMED_STEPS
    batches_s = [_seconds(functools.partial(batches, step), time.process_time) for step in range(steps)]
    passed_s, worked_s = [], []
    since, worked = time.monotonic(), time.process_time()
    for _, batch in ahead(batches, 0, steps):
        train(batch)
        passed_s.append(time.monotonic() - since)
        worked_s.append(time.process_time() - worked)
        since, worked = time.monotonic(), time.process_time()
    if jax.default_backend() == "cpu":
        # what a busy machine's other work takes is not counted: processor time, on as many cores as are at work without it
        at_work = AT_WORK * min(jax.local_device_count(), _cores())
        whole_s = float(np.quantile(worked_s[1:], UNDISTURBED)) / at_work
    else:  # an accelerator's time is seen from outside only
        whole_s = float(np.quantile(passed_s[1:], UNDISTURBED))
    batch_s = float(np.quantile(batches_s, UNDISTURBED))
    inputs = {info.name: trainer.shapes[info.name] for info in dense.inputs}
    return Pace(
        setup_s=max(0.0, min(passed_s[0], worked_s[0]) - whole_s),
        step_s=max(whole_s - batch_s / _cores(), LEAST_SHARE * whole_s),
        batch_s=batch_s,
        judgement_s=_seconds(functools.partial(trainer.judge(dense), {}), time.process_time),
        cores=_cores(),
        macs=macs_of(dense, inputs),
    )


def _seconds(action: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    action()
    return clock() - start


def _cores() -> int:
    return len(os.sched_getaffinity(0))
