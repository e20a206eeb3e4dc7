"""Augmentation: what it does to pixels, and where it is left out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from search.graph.ir import Array, Graph
from search.graph.onnx_import import load
from search.recover.augment import Augmentation, choose
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


def test_what_is_no_image_stays_as_it_is() -> None:
    """Small maps and vectors are not augmented, nor is the model asked."""

    def classes(feeds: Mapping[str, Array]) -> Array:
        raise AssertionError

    small = choose(graph(8), {"x": images(4, 3, 8, 8)}, classes, np.random.default_rng(0))
    assert small == Augmentation(flip=False, shift=0)
