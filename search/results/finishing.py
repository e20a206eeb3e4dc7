"""The last files of a job: of all candidates that are wanted, or of as many as its time allows."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping

from search.input.division import Splits
from search.judge.dense import answers
from search.memo import Units
from search.results import points
from search.space.plan import Candidate, Knobs, PlanKey, named
from search.survive import Survival
from search.wire.progress import Progress, Stopped

QUICK_SAMPLES = 512
"""Judged samples when the job was told to stop and has seconds left."""
TO_JUDGE = 0.6
"""Share of what is left of the deadline that judging may take; the rest is for proofs and for the stopwatch."""
FEWEST_JUDGED = 64
"""Samples, however little time is left: their interval is some twelve points wide."""
TRIED = 8
"""Samples that say how long one takes."""


@dataclasses.dataclass
class Finished:
    """What was written and judged."""

    finisher: points.Finisher
    splits: Splits
    """Whose judged samples the files were judged on."""
    rewritten: points.File | None = None
    files: dict[PlanKey, points.File] = dataclasses.field(default_factory=dict)
    complete: bool = True
    """Whether the job was not told to stop before or meanwhile."""


def finish(
    wanted: Mapping[PlanKey, Candidate],
    knobs: Knobs,
    splits: Splits,
    units: Units,
    survival: Survival,
    progress: Progress,
) -> Finished:
    """Finish candidates: all of them, or what there is time for once the job was told to stop; one at least.

    Args:
        wanted: candidates by their plans.
        knobs: the dense network.
        splits: with the judged samples, which the search did not see; some of them where there is no time for all.
        units: finished files.
        survival: a candidate that fails is left out.
        progress: is told what is done; may ask to stop.
    """
    done: Finished | None = None
    try:
        if not progress.stopping:
            some = _affordable(splits, len(wanted), knobs, progress)
            done = Finished(points.Finisher(knobs, some.judged, some.selected, units), some)
            _write(done, wanted, survival, progress)
            return done
    except Stopped:
        if done is not None and done.files:
            progress.warn(f"the job ended early, with {len(done.files)} of {len(wanted)} files")
            done.complete = False
            return done
    some = splits.briefly(QUICK_SAMPLES)
    with progress.sheltered():
        done = Finished(points.Finisher(knobs, some.judged, some.selected, units), some, complete=False)
        _write(done, wanted, survival, progress)
    return done


def _affordable(splits: Splits, files: int, knobs: Knobs, progress: Progress) -> Splits:
    """As many judged samples as there is time for, if every file, and both controls, took as long as the dense network."""
    left_s, judged = progress.left_s(), splits.judged
    if left_s is None or len(judged) <= FEWEST_JUDGED:
        return splits
    begin = time.monotonic()
    answers(knobs.graph, judged.take(slice(TRIED)))
    each_s = (time.monotonic() - begin) / min(TRIED, len(judged))
    most = max(FEWEST_JUDGED, int(TO_JUDGE * left_s / (each_s * (files + 2))))
    if most < len(judged):
        progress.cut_short = True
        progress.warn(
            f"points are judged on {most} of {len(judged)} samples, as many as search.deadline_minutes leaves time for; "
            "give more minutes for narrower intervals"
        )
    return splits.briefly(most)


def _write(done: Finished, wanted: Mapping[PlanKey, Candidate], survival: Survival, progress: Progress) -> None:
    with survival.without("control", "rewrites alone"):
        done.rewritten = done.finisher.rewritten()
    for key, candidate in progress.finish(wanted.items(), "files"):
        with survival.without("point", named(candidate.plan)):
            done.files[key] = done.finisher.finish(candidate)
