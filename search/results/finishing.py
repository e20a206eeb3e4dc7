"""The last files of a job: of all candidates that are wanted, or of as many as its time allows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from search.input.division import Splits
from search.memo import Units
from search.results import points
from search.space.plan import Candidate, Knobs, PlanKey, named
from search.survive import Survival
from search.wire.progress import Progress, Stopped

QUICK_SAMPLES = 512
"""Judged samples when the job was told to stop and has seconds left."""


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
            done = Finished(points.Finisher(knobs, splits.judged, splits.selected, units), splits)
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


def _write(done: Finished, wanted: Mapping[PlanKey, Candidate], survival: Survival, progress: Progress) -> None:
    with survival.without("control", "rewrites alone"):
        done.rewritten = done.finisher.rewritten()
    for key, candidate in progress.finish(wanted.items(), "files"):
        with survival.without("point", named(candidate.plan)):
            done.files[key] = done.finisher.finish(candidate)
