"""Samples divided: nobody serves twice, equals stay together, classes and sizes are as they should be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.input.data import Part
from search.input.division import Splits, divide, folds, keys_of, nearly_equal, without_repeats


def numbered(values: np.ndarray, labels: np.ndarray | None = None) -> Part:
    """Samples that are one number each."""
    return Part({"x": values.astype(np.float32).reshape(-1, 1)}, labels)


def divided(part: Part, *, most: int = 10_000, trains: int | None = None) -> Splits:
    """By the rule of jobs."""
    return divide(
        part, "labelled", np.random.default_rng(0), most_calibration=most, most_search=most, most_evaluation=trains
    )


def values_of(part: Part) -> list[float]:
    """The numbers."""
    return [float(value) for value in part.feeds["x"][:, 0]]


@pytest.mark.parametrize("trains", [None, 200])
@pytest.mark.parametrize("count", [50, 1000])
def test_no_sample_serves_two_purposes(count: int, trains: int | None) -> None:
    """Training, search, selection and evaluation are disjoint and together all samples; calibration is where training begins."""
    splits = divided(numbered(np.arange(count)), trains=trains)
    parts = [splits.train, splits.search, splits.judged]
    assert sorted(value for part in parts for value in values_of(part)) == list(range(count))
    assert values_of(splits.train)[: len(splits.calibration)] == values_of(splits.calibration)
    assert splits.crossed == (count == 50)
    if not splits.crossed:
        assert values_of(splits.selection) + values_of(splits.evaluation) == values_of(splits.judged)
        assert abs(len(splits.selection) - len(splits.evaluation)) <= 1
    use = splits.use()
    assert (use.selection, use.evaluation) == (len(splits.selection), len(splits.evaluation))


def test_sizes_by_hand() -> None:
    """Of 1000: 300, 200, and 250 each; with caps what is over is judged; where weights are trained at most 150 each are."""
    assert [len(p) for p in (divided(numbered(np.arange(1000))).calibration,)] == [300]
    plain = divided(numbered(np.arange(1000))).use()
    assert (plain.calibration, plain.search, plain.selection, plain.evaluation) == (300, 200, 250, 250)
    capped = divided(numbered(np.arange(1000)), most=100).use()
    assert (capped.calibration, capped.search, capped.selection, capped.evaluation) == (100, 100, 400, 400)
    trained = divided(numbered(np.arange(1000)), trains=200).use()
    assert (trained.training, trained.search, trained.selection, trained.evaluation) == (400, 200, 200, 200)
    few = divided(numbered(np.arange(700))).use()
    assert (few.selection, few.evaluation, few.crossed) == (350, 350, True)


def test_a_job_in_haste_judges_fewer_of_both() -> None:
    """The first of each part."""
    splits = divided(numbered(np.arange(2000)))
    short = splits.briefly(100)
    assert len(short.judged) == 100
    assert values_of(short.selection) == values_of(splits.selection)[:50]
    assert values_of(short.evaluation) == values_of(splits.evaluation)[:50]
    assert splits.briefly(5000) is splits


@given(st.lists(st.integers(0, 12), min_size=8, max_size=120), st.booleans())
def test_equal_samples_never_stand_on_both_sides(values: list[int], labelled: bool) -> None:
    """Whatever repeats how often, as long as there are as many kinds of sample as parts."""
    labels = np.arange(len(values)) % 3 if labelled else None
    splits = divided(numbered(np.array(values), labels))
    if len(set(values)) < 3:
        return
    sides = [set(values_of(part)) for part in (splits.train, splits.search, splits.judged)]
    assert all(sides)
    assert sum(map(len, sides)) == len(set.union(*sides))


def test_every_part_has_its_share_of_each_class() -> None:
    """Nine of ten samples are of one class, in files sorted by class: every part has nine of ten, to within one sample."""
    labels = np.sort(np.arange(1000) % 10 == 0).astype(np.int64)
    splits = divided(numbered(np.arange(1000), labels))
    for part in (splits.calibration, splits.search, splits.selection, splits.evaluation):
        assert part.labels is not None
        assert abs(int(part.labels.sum()) - len(part) / 10) <= 1


def test_the_shuffle_follows_its_seed() -> None:
    """Another seed, another order; targets that are no classes are shuffled too."""
    part = numbered(np.arange(200), np.random.default_rng(0).normal(size=200))
    first, again, other = (
        divide(part, "labelled", np.random.default_rng(seed), most_calibration=50, most_search=50) for seed in (0, 0, 1)
    )
    assert values_of(first.search) == values_of(again.search) != values_of(other.search)
    assert values_of(first.calibration) != sorted(values_of(first.calibration))


def test_repeats_count_once() -> None:
    """Twelve digits repeated 25 times are twelve samples; equal inputs of other labels are two; too few stay as they are."""
    digits = numbered(np.tile(np.arange(12), 25), np.tile(np.arange(12) % 10, 25))
    once, words = without_repeats(digits, 8)
    assert values_of(once) == list(range(12))
    assert words is not None
    assert words.startswith("288 of 300 samples repeat others")
    other = Part(digits.feeds, np.concatenate([digits.labels[:-12], digits.labels[-12:] + 1]))  # type: ignore[index]
    assert len(without_repeats(other, 8)[0]) == 24
    same, words = without_repeats(digits, 13)
    assert same is digits
    assert words is not None
    assert "only 12 of 300 samples differ" in words
    assert without_repeats(numbered(np.arange(9)), 8)[1] is None


def test_all_inputs_tell_samples_apart() -> None:
    """Equal in one input, different in the other."""
    part = Part({"a": np.zeros((4, 2)), "b": np.array([0, 1, 0, 2])[:, None]}, None)
    assert keys_of(part).tolist() == [0, 1, 0, 2]


def test_pictures_that_are_nearly_equal_are_counted() -> None:
    """A copy with 4 % of noise is nearly equal, one with 30 % is not; rows of a table are nobody's copies."""
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(40, 3, 6, 6)).astype(np.float32) + 7
    noise = rng.normal(size=(10, 3, 6, 6)).astype(np.float32)
    others = Part({"x": pictures}, None)
    assert nearly_equal(Part({"x": pictures[:10] + 0.04 * noise}, None), others) == 10
    assert nearly_equal(Part({"x": pictures[:10] + 0.3 * noise}, None), others) == 0
    assert nearly_equal(numbered(np.arange(9)), numbered(np.arange(9))) == 0


def test_folds_take_turns() -> None:
    """Every sample is in one fold."""
    assert sorted(np.concatenate(folds(23)).tolist()) == list(range(23))
    assert len(folds(23)) == 10
    assert len(folds(4)) == 4
