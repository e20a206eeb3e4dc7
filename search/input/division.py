"""Samples divided by purpose, so that none serves two: neither itself nor one that is equal to it."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
from numpy.typing import NDArray

from search.graph.ir import Array
from search.input.data import Part
from search.wire.report import DataRegime, DataUse

CALIBRATION, SEARCH, TRAINED_ON_LEAST = 0.3, 0.2, 0.6
"""Shares of the samples: two for the search; where weights are trained, at most what the last one leaves is judged on."""
FEWEST_APART = 200
"""Samples that the choice and the judgement each need to have some of their own: an interval of some three points of accuracy."""
FOLDS = 10
NEARLY = 0.1
"""Distance of two samples over that of the nearer one from the mean: a picture stored as a JPEG moves by half of it."""
PICTURE = 4
"""Axes of pictures: samples, channels, two of space. Rows of a table may well be nearly equal."""
MOST_COMPARED = 1_500
"""Samples that are compared in pairs."""


@dataclasses.dataclass(frozen=True)
class Splits:
    """Calibration fits weights, search ranks candidates, selection chooses the best point, evaluation tells how good it is."""

    train: Part
    """What weights may learn from; calibration is its beginning."""
    calibration: Part
    search: Part
    judged: Part
    """Those of the selection, then those of the evaluation; where there are too few for both, each serves both, fold by fold."""
    selected: int
    """How many are for the selection alone; 0 where all serve both."""
    regime: DataRegime

    @property
    def crossed(self) -> bool:
        """Whether the choice is judged fold by fold, as there are too few samples for a part of its own."""
        return self.selected == 0

    @property
    def selection(self) -> Part:
        """Samples that tell which point is best."""
        return self.judged.take(slice(self.selected or None))

    @property
    def evaluation(self) -> Part:
        """Samples that tell how good each point is."""
        return self.judged.take(slice(self.selected, None))

    def briefly(self, most: int) -> Splits:
        """With so many judged samples at most, for a job that has seconds left."""
        if len(self.judged) <= most:
            return self
        selected = round(most * self.selected / len(self.judged))
        judged = np.concatenate([np.arange(selected), self.selected + np.arange(most - selected)])
        return dataclasses.replace(self, judged=self.judged.take(judged), selected=selected)

    def use(self) -> DataUse:
        """Sizes, for the report."""
        return DataUse(
            self.regime,
            len(self.calibration),
            len(self.search),
            len(self.judged) - self.selected,
            len(self.train),
            selection=self.selected or len(self.judged),
            crossed=self.crossed,
        )


def divide(
    part: Part,
    regime: DataRegime,
    rng: np.random.Generator,
    *,
    most_calibration: int,
    most_search: int,
    most_evaluation: int | None = None,
) -> Splits:
    """30 % for calibration, 20 % for the search (both capped), and the rest for selection and evaluation, half each.

    Samples are shuffled first, classes in turn where every sample has one, so that each part has its share of them; samples whose
    inputs are equal come into one part.

    Args:
        part: all samples.
        regime: labelled or not, or synthetic.
        rng: shuffles.
        most_calibration: cap.
        most_search: cap.
        most_evaluation: given when weights are to be trained: selection and evaluation then take 20 % each, at most so many
            samples, and what is over is for training; None leaves nothing to train on but the calibration samples.
    """
    count = len(part)
    calibration = min(most_calibration, max(2, int(CALIBRATION * count)))
    search = min(most_search, max(2, int(SEARCH * count)))
    held = count - calibration - search
    if most_evaluation is not None:
        held = min(held, 2 * most_evaluation, max(2, int((1 - TRAINED_ON_LEAST) * count)))
    keys = keys_of(part)
    order = _together(keys, _in_turn(_classes(part), rng))
    selected = held // 2 if held >= 2 * FEWEST_APART else 0
    ends = _ends(keys[order], np.cumsum([calibration, search, *([selected] if selected else []), held - selected]))
    first, second, last = ends[0], ends[1], ends[-1]
    return Splits(
        train=part.take(np.concatenate([order[:first], order[last:]])),
        calibration=part.take(order[:first]),
        search=part.take(order[first:second]),
        judged=part.take(order[second:last]),
        selected=ends[2] - second if selected else 0,
        regime=regime,
    )


def keys_of(part: Part) -> NDArray[np.int64]:
    """A number for every sample (N,); equal inputs have equal numbers, counted from 0 in the order of their first."""
    seen: dict[bytes, int] = {}
    feeds = [np.ascontiguousarray(value) for value in part.file_feeds.values()]
    digests = (
        hashlib.blake2b(b"".join(value[i].tobytes() for value in feeds), digest_size=16).digest()
        for i in range(len(part))
    )
    return np.array([seen.setdefault(each, len(seen)) for each in digests])


def without_repeats(part: Part, fewest: int) -> tuple[Part, str | None]:
    """Samples that differ in inputs or label, and in words how many did not; all of them where fewer than ``fewest`` differ."""
    keys = keys_of(part)
    said = np.zeros(len(part), np.int64)
    if part.labels is not None:
        said = keys_of(Part({"y": part.labels.reshape(len(part), -1)}, None))
    _, first = np.unique(np.stack([keys, said], 1), axis=0, return_index=True)
    repeated = len(part) - len(first)
    if not repeated:
        return part, None
    if len(first) < fewest:
        return part, (
            f"only {len(first)} of {len(part)} samples differ, so they stand on both sides of every division, and accuracies say "
            "nothing of new samples; give a data set of samples that differ"
        )
    return part.take(
        np.sort(first)
    ), f"{repeated} of {len(part)} samples repeat others and are left out: each counts once"


def nearly_equal(one: Part, others: Part) -> int:
    """How many pictures are nearly the same as one of others, of the first `MOST_COMPARED` of both."""
    feeds = [name for name, value in one.feeds.items() if value.dtype.kind == "f" and value.ndim == PICTURE]
    if not feeds or not len(others):
        return 0
    mine, theirs = (
        np.concatenate(
            [part.feeds[name][:MOST_COMPARED].reshape(min(len(part), MOST_COMPARED), -1) for name in feeds], 1
        )
        for part in (one, others)
    )
    mean = theirs.mean(0)
    mine, theirs = (mine - mean).astype(np.float64), (theirs - mean).astype(np.float64)
    squares, other_squares = (mine**2).sum(1), (theirs**2).sum(1)
    distances = squares[:, None] + other_squares - 2 * mine @ theirs.T
    near = distances <= NEARLY**2 * np.minimum(squares[:, None], other_squares)
    return int(near.any(1).sum())


def folds(count: int) -> list[NDArray[np.int64]]:
    """Positions of every fold."""
    return [np.arange(fold, count, FOLDS) for fold in range(min(FOLDS, count))]


def _classes(part: Part) -> Array:
    """A class for every sample; the same one where samples have none."""
    plain = part.labels is not None and part.labels.dtype.kind in "iub" and part.labels.size == len(part)
    return part.labels.reshape(-1) if plain and part.labels is not None else np.zeros(len(part), np.int64)


def _in_turn(classes: Array, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions shuffled so that every stretch of them has its share of each class."""
    order = rng.permutation(len(classes))
    places = np.empty(len(classes))
    for each in np.unique(classes):
        mine = order[classes[order] == each]
        places[mine] = (np.arange(len(mine)) + rng.random()) / len(mine)
    return order[np.argsort(places[order], kind="stable")]


def _together(keys: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same order, but for samples of one key, which follow their first."""
    place: dict[int, int] = {}
    firsts = [place.setdefault(int(key), i) for i, key in enumerate(keys[order])]
    return order[np.argsort(firsts, kind="stable")]


def _ends(keys: NDArray[np.int64], wanted: NDArray[np.int64]) -> list[int]:
    """Ends of parts that part no samples of one key, each the nearest to what was wanted that leaves no part empty."""
    whole = [0, *(np.flatnonzero(keys[1:] != keys[:-1]) + 1).tolist(), len(keys)]
    if len(whole) - 1 < len(wanted):  # fewer samples that differ than parts: nothing can be kept apart
        return [int(end) for end in wanted]
    ends: list[int] = []
    for i, end in enumerate(wanted):
        left = len(wanted) - 1 - i
        able = [place for place in whole[: len(whole) - left] if place > (ends[-1] if ends else 0)]
        ends.append(min(able, key=lambda place, end=end: abs(place - end)))  # type: ignore[misc]
    return ends
