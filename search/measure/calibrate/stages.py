"""Random whole networks in small: an image, a stem that shrinks it, stages of one block kind, a wide last layer.

Kernels cost more inside such a network than in a short chain: its weights and maps push each other out of the caches.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from search.measure.calibrate.builder import Builder, Rng

Block = Callable[[Builder, int, int], None]
"""Appends a block to a network: output width, stride."""


def random_width(rng: Rng, low: int = 8, high: int = 384) -> int:
    """A log-uniform width: half on multiples of 16, a third on multiples of 4, the rest anywhere."""
    width = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    step = int(rng.choice([16, 4, 1], p=[0.5, 0.33, 0.17]))
    return max(step, round(width / step) * step)


def staged(block: Block, narrowest: int, widest: int) -> Callable[[Rng], Builder]:
    """Networks of two to four stages of ``block``; each is half as large as the one before it, and wider.

    Args:
        block: appends one block.
        narrowest: output width of the first stage, at least.
        widest: output width of the last stage, at most.
    """

    def build(rng: Rng) -> Builder:
        builder = Builder(rng, 3, int(rng.choice([32, 64, 96, 128])))
        builder.conv(random_width(rng, 8, 64), int(rng.choice([3, 3, 5, 7])), 2)
        if rng.random() < 0.5:
            builder.pool(3, 2)
        for width in sorted(random_width(rng, narrowest, widest) for _ in range(rng.integers(2, 5))):
            for repeat in range(rng.integers(1, 5)):
                block(builder, width, 2 if repeat == 0 and builder.size > 4 else 1)
        if rng.random() < 0.6:
            builder.conv(random_width(rng, 128, 1280), 1)
        builder.head(flatten=False)
        return builder

    return build


def residual_block(builder: Builder, width: int, stride: int) -> None:
    """A residual whose inner width is pruned at random."""
    residual(builder, random_width(builder.rng, max(4, width // 4), width + 4), width, stride)


def residual(builder: Builder, inner: int, outer: int, stride: int) -> None:
    """Two 3x3 convolutions and a shortcut, projected where the shapes differ."""
    shortcut, into, size = builder.value, builder.channels, builder.size
    builder.conv(inner, stride=stride)
    builder.conv(outer, relu=False)
    body, after = builder.value, builder.size
    if stride > 1 or into != outer:
        builder.value, builder.channels, builder.size = shortcut, into, size
        shortcut = builder.conv(outer, 1, stride, relu=False)
        builder.value, builder.size = body, after
    builder.add(shortcut)


def inverted_block(builder: Builder, width: int, stride: int) -> None:
    """A wide 1x1, a depthwise and a narrow 1x1 convolution, with a shortcut where the shapes agree."""
    shortcut, into = builder.value, builder.channels
    builder.conv(random_width(builder.rng, into, 6 * into), 1)
    builder.depthwise(int(builder.rng.choice([3, 3, 5])), stride)
    builder.conv(width, 1, relu=False)
    if stride == 1 and into == width:
        builder.add(shortcut)


def shuffle_unit(builder: Builder, width: int, stride: int) -> None:
    """One part of the channels convolved, both joined and shuffled; with a stride or another width, both parts are."""
    half, into, size = max(4, width // 2), builder.channels, builder.size
    moves = stride > 1 or into != 2 * half
    left, builder.value = (builder.value, builder.value) if moves else builder.split(half)
    builder.channels = into if moves else half
    builder.conv(random_width(builder.rng, max(4, half // 2), half + 4), 1)
    builder.depthwise(3, stride)
    right, after = builder.conv(half, 1), builder.size
    if moves:
        builder.value, builder.channels, builder.size = left, into, size
        builder.depthwise(3, stride)
        left = builder.conv(half, 1)
    builder.size = after
    builder.concat(left, right, channels=2 * half)
    builder.shuffle()


def dense_layers(builder: Builder, width: int, stride: int) -> None:
    """Two layers that normalise all that came before and add channels to it; a stride narrows to ``width`` and pools."""
    if stride > 1:
        builder.batch_norm()
        builder.conv(width, 1, relu=False)
        builder.pool()
    for _ in range(2):
        before, channels = builder.value, builder.channels
        builder.batch_norm()
        builder.conv(random_width(builder.rng, 16, 128), 1)
        builder.conv(random_width(builder.rng, 8, 48), relu=False)
        builder.concat(before, builder.value, channels=channels + builder.channels)
