"""Random flips and shifts of images, on the host; kept only where the dense model gives the same answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from search.graph.ir import Array, Graph
from search.graph.onnx.write import export
from search.input.data import Part
from search.judge.sessions import Session

LEAST_AGREEMENT = 0.75
"""Share of samples that keep the dense model's answer: mirrored photographs 0.85 and more, mirrored digits about 0.4."""
SEVERAL = 8
"""Samples of a class that are enough to ask whether it keeps its answers; most of a large class may hide all of a small one."""
SMALLEST_SIDE = 16
PROBE_SAMPLES = 256


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to a batch of images (N, C, H, W): mirrored with probability 1/2, shifted by up to ``shift`` pixels."""

    flip: bool = False
    shift: int = 0

    def of(self, part: Part, rng: np.random.Generator) -> Part:
        """The same samples and labels, each image augmented on its own."""
        return dataclasses.replace(part, feeds={name: self(value, rng) for name, value in part.feeds.items()})

    def __call__(self, x: Array, rng: np.random.Generator) -> Array:
        """The batch, each image augmented on its own; what a shift leaves empty repeats the border's value 0."""
        if self.flip:
            x = np.where((rng.random(len(x)) < 0.5)[:, None, None, None], x[..., ::-1], x)
        if not self.shift:
            return x
        height, width = x.shape[2:]
        padded = np.pad(x, [(0, 0), (0, 0), (self.shift, self.shift), (self.shift, self.shift)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
        row, column = rng.integers(0, 2 * self.shift + 1, (2, len(x)))
        return np.ascontiguousarray(windows[np.arange(len(x)), :, row, column])


NONE = Augmentation()
"""Samples as they are."""


def half_mixed(part: Part, rng: np.random.Generator) -> Part:
    """The same samples, every second one halfway to another (mixup, Zhang et al. 2018), and so new to any network."""
    other = rng.permutation(len(part))
    feeds = {name: value.copy() for name, value in part.feeds.items()}
    for name, value in part.feeds.items():
        feeds[name][1::2] = 0.5 * (value + value[other])[1::2]
    return dataclasses.replace(part, feeds=feeds)


def suited(graph: Graph, part: Part, rng: np.random.Generator) -> Augmentation:
    """The augmentation that suits a data set; none where labels would move with the image, or may depend on where things are.

    Args:
        graph: the dense network.
        part: samples whose labels are understood.
        rng: draws the probes.
    """
    session, task = Session(export(graph), graph.sampling), part.task
    probe = part.take(slice(PROBE_SAMPLES)).feeds
    if task is None or not task.classifies_samples(session(probe)[task.output]):
        return NONE
    return choose(graph, probe, lambda feeds: task.answers(session(feeds)[task.output]).reshape(-1), rng)


def choose(
    graph: Graph,
    feeds: Mapping[str, Array],
    classes: Callable[[Mapping[str, Array]], Array],
    rng: np.random.Generator,
) -> Augmentation:
    """The augmentation that leaves the dense model's answers alone.

    Args:
        graph: the dense network.
        feeds: some samples.
        classes: feeds to the dense model's class of every sample.
        rng: draws the probes.

    Returns:
        Flips and shifts, each only where at least `LEAST_AGREEMENT` of the answers stay, of all samples and of those of every
        class that the model gives to `SEVERAL`; none for anything but images.
    """
    if len(graph.inputs) != 1 or graph.inputs[0].dtype.kind != "f":
        return NONE
    name = graph.inputs[0].name
    x = feeds[name][:PROBE_SAMPLES]
    if x.ndim != 4 or x.shape[1] not in (1, 3) or min(x.shape[2:]) < SMALLEST_SIDE:
        return NONE
    answers = classes({name: x})
    found, counts = np.unique(answers, return_counts=True)

    def harmless(changed: Array) -> bool:
        same = classes({name: changed}) == answers
        groups = [same, *(same[answers == one] for one in found[counts >= SEVERAL])]
        return min(float(group.mean()) for group in groups) >= LEAST_AGREEMENT

    shift = min(x.shape[2:]) // 8
    mirrored = np.ascontiguousarray(x[..., ::-1])
    return Augmentation(flip=harmless(mirrored), shift=shift if harmless(Augmentation(shift=shift)(x, rng)) else 0)
