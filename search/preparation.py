"""The first step of a job: check the data against the model, couple the channels, divide the samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from search.candidates.recovery import Recovery
from search.graph.edit.patch import file_of
from search.graph.ir import Array, Graph
from search.graph.onnx import head
from search.graph.onnx.find_samples import Found
from search.input.data import FEWEST_SAMPLES, SYNTHETIC_SAMPLES, Part, check, synthetic
from search.input.division import Splits, divide, nearly_equal, without_repeats
from search.input.sample_axes import sizes_taken
from search.judge.dense import DOUBT_SAMPLES, FEWEST_PROBED, PROBE_SAMPLES, doubt, unclear, understood
from search.judge.proof import Proof
from search.judge.proved import unproved
from search.repair.datafree import DATA_FREE, synthesise
from search.repair.targets import samples_that_fit
from search.space.plan import MOST_LOOKED_AT, Knobs
from search.train import augment
from search.wire.progress import Progress
from search.wire.report import DataRegime
from search.wire.request import JobSpec

FEW_SAMPLES = 100
"""For evaluation: their interval is ten points wide."""
PROVED_ON = 4
"""Samples on which it is tried which groups can be cut in the file."""


def prepare(
    spec: JobSpec,
    graph: Graph,
    arrays: Mapping[str, Array] | None,
    found: Found,
    recovery: Recovery,
    progress: Progress,
) -> tuple[Splits, Knobs, augment.Augmentation]:
    """Check the data against the model, couple the channels, divide the samples.

    Candidates are ranked on augmented samples: a network's answers to images that it knows by heart hide what a pruned copy lost.
    """
    rng = np.random.default_rng((spec.search.seed, 0))
    part = (
        _synthesised(graph, found, rng, progress, steps=recovery.synthesis_steps)
        if arrays is None
        else _through_head(graph, check(arrays, graph, found.samples))
    )
    regime = regime_of(part, arrays)
    shapes = graph.sampling.shapes({name: value.shape[1:] for name, value in part.feeds.items()})
    knobs = Knobs(graph, shapes, exclude=spec.constraints.exclude)
    failing = unproved(knobs, Proof(file_of(graph), graph, part.take(slice(PROVED_ON)).file_feeds))
    if failing:
        knobs = Knobs(graph, shapes, exclude=spec.constraints.exclude, stays=failing)
    part, repeats = without_repeats(understood(part, graph, _some(knobs, PROBE_SAMPLES)), FEWEST_SAMPLES)
    if repeats is not None:
        progress.warn(repeats)
    splits = divide(
        part,
        regime,
        rng,
        most_calibration=samples_that_fit(graph, knobs.groups.shapes),
        most_search=knobs.looked_at(MOST_LOOKED_AT),
        most_evaluation=recovery.most_evaluation,
    )
    augmentation = augment.suited(graph, splits.train, np.random.default_rng((spec.search.seed, 3)))
    splits = dataclasses.replace(splits, search=augmentation.of(splits.search, rng))
    for words in (unclear(splits.evaluation, graph), doubt(splits.evaluation, graph, _some(knobs, DOUBT_SAMPLES))):
        if words is not None:
            progress.warn(words)
    if len(splits.evaluation) < FEW_SAMPLES:
        progress.warn(f"accuracy is judged on {len(splits.evaluation)} samples only; its interval is wide")
    if near := nearly_equal(splits.evaluation, splits.train):
        progress.warn(
            f"{near} of {len(splits.evaluation)} samples for evaluation are nearly equal to some that weights are fitted to, so "
            "accuracies may flatter; leave out copies of one picture"
        )
    if graph.fixed:
        names = ", ".join(f"`{name}`" for name in sorted(graph.fixed)[:3])
        progress.warn(f"inputs with a default stay as the file has them, and points are judged at it: {names}")
    if graph.kinds is not None and graph.kinds.carried:
        named = ", ".join(dict.fromkeys(found.operator for found in graph.kinds.carried))
        progress.warn(
            f"{len(graph.kinds.carried)} nodes are run by ONNX Runtime as they are ({named}); `inspect` says why"
        )
    for frozen in knobs.groups.frozen:
        if "is an output of the model" not in frozen.reason:
            progress.warn(f"`{frozen.node}` keeps its width: {frozen.reason}")
    return splits, knobs, augmentation


def _some(knobs: Knobs, most: int) -> int:
    """Samples that tell of labels: as many as a network of this size is looked at with, but for `FEWEST_PROBED`."""
    return max(FEWEST_PROBED, knobs.looked_at(most))


def regime_of(part: Part, arrays: Mapping[str, Array] | None) -> DataRegime:
    """Where samples come from; ``arrays``: the client's, if any."""
    return "data-free" if arrays is None else "unlabelled" if part.labels is None else "labelled"


def _through_head(graph: Graph, part: Part) -> Part:
    """Samples, with what the head of the file makes of them where it has one."""
    if graph.frame is None:
        return part
    return dataclasses.replace(part, feeds=head.enter(graph, part.feeds), given=part.feeds)


def _synthesised(graph: Graph, found: Found, rng: np.random.Generator, progress: Progress, *, steps: int) -> Part:
    noise = _through_head(graph, synthetic(graph, SYNTHETIC_SAMPLES, rng, found.samples))
    if words := sizes_taken(found):
        progress.warn(words)
    progress.warn(DATA_FREE)
    return dataclasses.replace(noise, feeds=synthesise(graph, noise.feeds, rng, steps=steps))
