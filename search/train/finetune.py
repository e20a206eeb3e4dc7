"""The training stage of a job: candidates in, the same candidates with better weights out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from search.graph.onnx.write import export
from search.input.division import Splits
from search.memo import Units, digest
from search.space.plan import Candidate, Knobs
from search.train.augment import Augmentation
from search.train.minutes import RESERVE, Courses, Select
from search.train.trainer import FEWEST_SAMPLES, Trainer
from search.wire.progress import Progress, Stopped
from search.wire.request import JobSpec

__all__ = ["REPAIR_SHARE", "Select", "train"]
REPAIR_SHARE = 0.2
"""Part of the recovery stage that repair before training takes, for the progress bar."""


def train(
    candidates: Sequence[Candidate],
    knobs: Knobs,
    splits: Splits,
    augmentation: Augmentation,
    spec: JobSpec,
    select: Select,
    units: Units,
    cache_dir: Path,
    progress: Progress,
) -> list[Candidate]:
    """Spend the request's minutes of fine-tuning on candidates.

    Args:
        candidates: repaired, the slowest first.
        knobs: the dense network.
        splits: data; the train part is learned from, the search part decides.
        augmentation: of the samples to learn from.
        spec: the request.
        select: which candidates are worth more training.
        units: finished and unfinished courses.
        cache_dir: remembers how fast this machine trains this network.
        progress: is told what happens; may ask to stop.

    Returns:
        Those that took part in training, in the same order; all where there was none, or where it ended early. Where nothing
        could be trained they are as they were, and a warning says why.
    """
    if not candidates or progress.stopping:
        return list(candidates)
    if len(splits.train) < FEWEST_SAMPLES:
        progress.warn(
            f"{len(splits.train)} samples are left to train on, at least {FEWEST_SAMPLES} are needed; "
            "the points are repaired in closed form only"
        )
        return list(candidates)
    trainer = Trainer(
        knobs.graph,
        knobs.groups.shapes,
        splits.train,
        splits.search,
        seed=spec.search.seed,
        augmentation=augmentation,
        real=splits.regime != "data-free",
    )
    if trainer.labels is None and splits.train.labels is not None:
        progress.warn("all labels are the same class; training follows the dense model's answers only")
    reason = trainer.why_not()
    if reason is not None:
        progress.warn(f"the network cannot be trained, its points are repaired in closed form only: {reason}")
        return list(candidates)
    measurements = cache_dir / "measurements" / f"pace-{digest(export(knobs.graph), trainer.batch)[:24]}.json"
    try:
        progress.part(REPAIR_SHARE, 1.0)
        recovery = Courses(trainer, units, progress, measurements, schedule=spec.search.schedule)
        seconds = 60 * minutes_of_training(spec, progress)
        with progress.sheltered():  # every step looks, and a course keeps what it has learned
            return recovery.recover(candidates, seconds=seconds, select=select, points=spec.search.points)
    except Stopped:
        return list(candidates)


def minutes_of_training(spec: JobSpec, progress: Progress) -> float:
    """Of training: what was asked for, as far as the deadline allows it."""
    wanted, most = spec.search.finetune_minutes, (1 - RESERVE) * spec.search.deadline_minutes
    if wanted > most:
        progress.warn(
            f"search.finetune_minutes is {wanted:g}, but of search.deadline_minutes {spec.search.deadline_minutes:g} at most "
            f"{most:g} are left for training, so that results can be written in time"
        )
    return min(wanted, most)
