"""Augmentation: what it does to pixels, and where it is left out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from search.graph.ir import Array, Graph
from search.graph.onnx.read import load
from search.input.data import Part
from search.judge.dense import understood
from search.train.augment import Augmentation, choose, half_mixed, suited
from tests.search.graph.nets import Net, images


def graph(side: int = 32) -> Graph:
    """Any network of images of a size."""
    net = Net(("N", 3, side, side))
    net.classifier(net.conv("x", 3, 4), 4)
    return load(net.bytes())


def test_every_image_is_one_of_its_views() -> None:
    """Mirrored or not, moved by whole pixels, zeros where nothing was; checked against all views one by one."""
    x = images(40, 1, 4, 4)
    changed = Augmentation(flip=True, shift=1)(x, np.random.default_rng(0))
    assert changed.shape == x.shape
    padded = np.pad(np.stack([x, x[..., ::-1]]), [(0, 0), (0, 0), (0, 0), (1, 1), (1, 1)])
    views = np.stack([padded[f, ..., i : i + 4, j : j + 4] for f in range(2) for i in range(3) for j in range(3)])
    matches = (views == changed).all((2, 3, 4))
    assert matches.any(0).all()
    assert matches.any(1).sum() > 12  # of 18 views, most are drawn in 40 images


@pytest.mark.parametrize(("blind", "flip"), [(True, True), (False, False)])
def test_flips_are_left_out_where_they_change_the_answer(blind: bool, flip: bool) -> None:
    """A judge that looks at the left half only is misled by mirror images, one that looks everywhere is not."""

    def classes(feeds: Mapping[str, Array]) -> Array:
        x = feeds["x"].sum(1)
        half = x if blind else x[..., :16]
        return np.asarray((half.reshape(len(x), -1).sum(1) > 0).astype(int))

    x = np.repeat(np.repeat(images(200, 3, 2, 2), 16, 2), 16, 3)
    assert choose(graph(), {"x": x}, classes, np.random.default_rng(0)).flip is flip


def test_a_small_class_that_flips_is_enough_to_leave_flips_out() -> None:
    """Left, right and none at 8, 10 and 82 %: 82 % of the answers stay in a mirror, those of the arrows do not."""

    def classes(feeds: Mapping[str, Array]) -> Array:
        side = feeds["x"][:, 0, :, :16].sum((1, 2)) - feeds["x"][:, 0, :, 16:].sum((1, 2))
        return np.asarray(np.sign(side).astype(int) + 1)

    x = np.zeros((200, 3, 32, 32), np.float32)
    x[:16, :, 8:24, 4:12] = 1
    x[16:36, :, 8:24, 20:28] = 1
    assert choose(graph(), {"x": x}, classes, np.random.default_rng(0)) == Augmentation(flip=False, shift=4)
    x[1:16] = x[17:36] = 0  # one of each: too few to ask
    assert choose(graph(), {"x": x}, classes, np.random.default_rng(0)).flip


@pytest.mark.parametrize(
    ("tail", "labels", "augmented"),
    [
        ("classes", None, True),
        ("classes", np.arange(64) % 4, True),
        ("classes", images(64, 4), False),
        ("column", np.arange(64) % 2, False),
        ("column", None, False),
        ("number", np.arange(64) % 2, False),
        ("number", None, False),
        ("map", np.zeros((64, 16, 16), int), False),
    ],
)
def test_only_classes_of_whole_images_are_augmented(tail: str, labels: Array | None, augmented: bool) -> None:
    """Flips need no new labels there; a map would have to be flipped too, and one column has no class to agree on."""
    net = Net(("N", 1, 16, 16))
    found = net.op("Tanh", net.conv("x", 1, 4, 1))
    if tail == "map":
        net.conv(found, 4, 4, 1)
    else:
        net.classifier(found, 4, 4 if tail == "classes" else 1)
    if tail == "number":
        net.op("Squeeze", net.nodes[-1].output[0], net.constant([1]))
    network = load(net.bytes())
    bright = np.linspace(-4, 4, 64, dtype=np.float32).reshape(-1, 1, 1, 1)  # so that the network names several classes
    part = understood(Part({"x": images(64, 1, 16, 16) + bright}, labels), network)
    assert suited(network, part, np.random.default_rng(0)).flip is augmented


def test_what_is_no_image_stays_as_it_is() -> None:
    """Small maps and vectors are not augmented, nor is the model asked."""

    def classes(feeds: Mapping[str, Array]) -> Array:
        raise AssertionError

    small = choose(graph(8), {"x": images(4, 3, 8, 8)}, classes, np.random.default_rng(0))
    assert small == Augmentation(flip=False, shift=0)


def test_every_second_sample_is_halfway_to_another() -> None:
    """The first, third, fifth stay; twice a mixed one less itself is another sample, and nothing given is changed."""
    x = images(40, 1, 4, 4)
    given = x.copy()
    found = half_mixed(Part({"x": x}, None), np.random.default_rng(0)).feeds["x"]
    assert (x == given).all()
    assert (found[::2] == x[::2]).all()
    others = 2 * found[1::2] - x[1::2]
    nearest = np.abs(others[:, None] - x[None]).max((2, 3, 4)).min(1)
    assert nearest.max() < 1e-5
    assert np.abs(found[1::2] - x[1::2]).max((1, 2, 3)).astype(bool).mean() > 0.8
