"""Random small networks of the block kinds that users have, to be timed: what a latency model learns a device from.

Every network is an ONNX file with random weights. Widths lie on and off the grid of any runtime, maps from 2 to 128
pixels, so that pruned networks are inside what the fit has seen.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from search.measure.calibrate.builder import Builder, MicroNetwork, Rng
from search.measure.calibrate.stages import (
    dense_layers,
    inverted_block,
    random_width,
    residual_block,
    shuffle_unit,
    staged,
)

MAX_MACS = 100_000_000
"""A timing of some hundred networks must end in seconds."""
LARGE_MACS = 400_000_000
"""Of the few large networks: what no cache keeps is priced by them."""


def micro_network(rng: Rng, *, sequences: bool = False) -> MicroNetwork:
    """A random network of a random kind, `SEQUENCES` among them or not, at most `MAX_MACS` large."""
    kinds = {**KINDS, **SEQUENCES} if sequences else KINDS
    while True:
        kind = str(rng.choice(list(kinds)))
        builder = kinds[kind](rng)
        if builder.macs <= (LARGE_MACS if kind in {"large", "heavy"} else MAX_MACS):
            return builder.build(kind)


def _depth(rng: Rng, most: int) -> int:
    """How many blocks: up to ``most``, and in every third network four times as many, as kernels run slower in long chains."""
    return int(rng.integers(1, most + 1)) * (4 if rng.random() < 0.33 else 1)


def _stem(rng: Rng, sizes: tuple[int, ...]) -> Builder:
    """Half of the networks begin at an image, half in the middle of a network."""
    size = int(rng.choice(sizes))
    if rng.random() < 0.5:
        builder = Builder(rng, int(rng.choice([1, 3])), size)
        builder.conv(random_width(rng, 8, 64), int(rng.choice([3, 5])), int(rng.choice([1, 2])))
        return builder
    return Builder(rng, random_width(rng), size)


def _residual(rng: Rng) -> Builder:
    builder = _stem(rng, (8, 14, 16, 28, 32, 56))
    for _ in range(_depth(rng, 3)):
        shortcut, width = builder.value, builder.channels
        if rng.random() < 0.5:
            builder.conv(random_width(rng))
        else:
            builder.conv(random_width(rng), 1)
            builder.conv(random_width(rng), 3)
        builder.conv(width, int(rng.choice([1, 3])), relu=False)
        builder.add(shortcut)
        if rng.random() < 0.4:
            builder.conv(random_width(rng), int(rng.choice([1, 3])), int(rng.choice([1, 2])))
    builder.head(flatten=False)
    return builder


def _cifar(rng: Rng) -> Builder:
    """Three stages of a narrow residual network, pruned at random inside its blocks."""
    builder = Builder(rng, 3, 32)
    for stage, width in enumerate(sorted(random_width(rng, 8, 80) for _ in range(3))):
        if stage == 0:
            builder.conv(width)
        for block in range(_depth(rng, 2)):
            residual_block(builder, width, 2 if stage and not block else 1)
    builder.head(flatten=False)
    return builder


def _inverted(rng: Rng) -> Builder:
    builder = _stem(rng, (7, 8, 14, 16, 28, 56, 112))
    for _ in range(_depth(rng, 2)):
        shortcut, width = builder.value, builder.channels
        builder.conv(min(random_width(rng, 16, 512), 8 * width), 1)
        stride = int(rng.choice([1, 2]))
        builder.depthwise(int(rng.choice([3, 3, 5])), stride)
        builder.conv(width if stride == 1 else random_width(rng, 8, 160), 1, relu=False)
        if stride == 1:
            builder.add(shortcut)
    builder.head(flatten=False)
    return builder


def _plain(rng: Rng) -> Builder:
    builder = _stem(rng, (8, 16, 28, 32, 56, 64))
    for _ in range(1 + _depth(rng, 4)):
        builder.conv(random_width(rng), int(rng.choice([1, 3, 3, 5])))
        if rng.random() < 0.4 and builder.size >= 4:
            builder.pool()
    builder.head(flatten=bool(rng.random() < 0.3) and builder.size <= 8)
    return builder


def _depthwise(rng: Rng) -> Builder:
    builder = _stem(rng, (7, 8, 14, 16, 28, 56, 112))
    for _ in range(_depth(rng, 3)):
        builder.depthwise(int(rng.choice([3, 3, 5])), int(rng.choice([1, 1, 2])))
        builder.conv(random_width(rng), 1)
    builder.head(flatten=False)
    return builder


def _digits(rng: Rng) -> Builder:
    """A small classifier of small pictures: convolution and pooling in turn, then one or two products."""
    builder = Builder(rng, int(rng.choice([1, 3])), int(rng.choice([8, 16, 28, 32])))
    for _ in range(_depth(rng, 3)):
        builder.conv(random_width(rng, 4, 96), int(rng.choice([3, 3, 5])))
        if rng.random() < 0.3:
            builder.conv(random_width(rng, 4, 96))
        if builder.size >= 4:
            builder.pool()
    builder.head(flatten=builder.size <= 8)
    return builder


def _heavy(rng: Rng) -> Builder:
    """Wide layers on small maps, 1 to 40 MB of weights: more than caches keep, so they are read anew at every call."""
    builder = Builder(rng, random_width(rng, 32, 256), int(rng.choice([2, 2, 4, 4, 7, 8])))
    weights = np.exp(rng.uniform(np.log(0.25e6), np.log(10e6)))
    while builder.parameters < weights and builder.macs < LARGE_MACS / 2:
        kernel = int(rng.choice([1, 3, 3]))
        builder.conv(random_width(rng, 96, 1280 if kernel == 1 else 560), kernel)
    builder.head(flatten=builder.size <= 2)
    return builder


def _branches(rng: Rng) -> Builder:
    """Branches that are concatenated, overlapping pools, squeeze-and-excite: what runs beside convolutions."""
    builder = _stem(rng, (7, 8, 14, 16, 28, 56))
    for _ in range(_depth(rng, 3)):
        start, into = builder.value, builder.channels
        match int(rng.integers(4)):
            case 0:
                left = builder.conv(random_width(rng, 8, 160), 1)
                total = builder.channels
                builder.value, builder.channels = start, into
                right = builder.conv(random_width(rng, 8, 160))
                builder.concat(left, right, channels=total + builder.channels)
            case 1:
                builder.pool(3, int(rng.choice([1, 2])))
            case 2:
                builder.squeeze_excite()
            case _:
                builder.conv(into, 3)
                builder.concat(start, builder.value, channels=2 * into)
        builder.conv(random_width(rng, 8, 192), int(rng.choice([1, 3])))
    builder.head(flatten=False)
    return builder


def _transformer(rng: Rng) -> Builder:
    """One to three blocks of attention and two products, on patches of an image; in every third network four times as many."""
    builder = Builder(rng, 3, int(rng.choice([32, 64, 96])))
    width = int(rng.integers(6, 49)) * int(rng.choice([4, 8]))
    patch = int(rng.choice([8, 16] if builder.size > 32 else [4, 8]))
    return _encoder(builder, width, patch, _depth(rng, 3))


def _vision_transformer(rng: Rng) -> Builder:
    """Three to eight such blocks on patches of 16 pixels, as wide as those that people deploy on small machines."""
    builder = Builder(rng, 3, int(rng.choice([64, 96, 128, 160])))
    return _encoder(builder, 16 * int(rng.integers(4, 17)), 16, int(rng.integers(3, 9)))


def _encoder(builder: Builder, width: int, patch: int, blocks: int) -> Builder:
    rng = builder.rng
    builder.conv(width, patch, patch, pad=0, relu=False)
    tokens = builder.tokens()
    for _ in range(blocks):
        shortcut = builder.value
        builder.layer_norm()
        builder.attention(tokens, int(rng.integers(1, 9)), int(rng.choice([16, 32, 64])))
        shortcut = builder.sum(shortcut)
        builder.layer_norm()
        builder.dense(int(rng.integers(8, 129)) * 8)
        builder.gelu()
        builder.dense(width)
        builder.sum(shortcut)
    builder.layer_norm()
    builder.token_head()
    return builder


def _shuffle(rng: Rng) -> Builder:
    """Units that split channels, work on one part and shuffle."""
    builder = _stem(rng, (7, 8, 14, 16, 28, 56))
    for _ in range(_depth(rng, 3)):
        builder.conv(2 * random_width(rng, 8, 128), 1)
        half = builder.channels // 2
        left, builder.value = builder.split(half)
        builder.channels = half
        builder.conv(random_width(rng, 8, 192), 1)
        builder.depthwise()
        builder.conv(half, 1)
        builder.concat(left, builder.value, channels=2 * half)
        builder.shuffle()
    builder.head(flatten=False)
    return builder


def _dense(rng: Rng) -> Builder:
    """Layers that normalise all that came before and add a few channels to it."""
    builder = _stem(rng, (7, 8, 14, 16, 28, 56))
    for _ in range(_depth(rng, 5)):
        before, channels = builder.value, builder.channels
        builder.batch_norm()
        builder.conv(random_width(rng, 16, 128), 1)
        builder.conv(random_width(rng, 8, 48), relu=False)
        builder.concat(before, builder.value, channels=channels + builder.channels)
    builder.batch_norm()
    builder.head(flatten=False)
    return builder


def _large(rng: Rng) -> Builder:
    """Wide 3x3 layers on larger maps: enough work for the rates of whole networks."""
    builder = Builder(rng, random_width(rng, 32, 128), int(rng.choice([14, 16, 28, 32, 56])))
    while builder.macs < MAX_MACS:
        shortcut, width = builder.value, builder.channels
        builder.conv(random_width(rng, 64, 512))
        builder.conv(width, relu=False)
        builder.add(shortcut)
        if rng.random() < 0.5 and builder.size > 7:
            builder.conv(random_width(rng, 64, 512), stride=2)
    builder.head(flatten=False)
    return builder


def _recurrent(rng: Rng) -> Builder:
    """One to three recurrences over a sequence, in one direction or both, and a classifier of its mean."""
    steps, features = int(rng.integers(8, 65)), int(rng.choice([8, 16, 40, 64, 128]))
    builder = Builder(rng, features, 1, (steps, 1, features))
    for _ in range(int(rng.integers(1, 4))):
        hidden = int(rng.integers(2, 33)) * 8 if rng.random() < 0.8 else int(rng.integers(8, 256))
        builder.recurrent(
            str(rng.choice(["LSTM", "LSTM", "GRU", "RNN"])), hidden, steps, directions=int(rng.choice([1, 1, 2]))
        )
    builder.sequence_head()
    return builder


def _signal(rng: Rng) -> Builder:
    """Convolutions over a signal, some of them depthwise."""
    length, channels = int(rng.choice([64, 128, 256, 512])), int(rng.choice([1, 8, 16, 40]))
    builder = Builder(rng, channels, length, (1, channels, length))
    for _ in range(_depth(rng, 4)):
        builder.conv1d(random_width(rng, 8, 192), int(rng.choice([1, 3, 3, 5, 7])))
        if rng.random() < 0.3:
            builder.conv1d(builder.channels, int(rng.choice([3, 5])), groups=builder.channels)
    builder.head(flatten=False)
    return builder


KINDS: dict[str, Callable[[Rng], Builder]] = {
    "residual": _residual,
    "cifar": _cifar,
    "inverted": _inverted,
    "plain": _plain,
    "depthwise": _depthwise,
    "digits": _digits,
    "heavy": _heavy,
    "branches": _branches,
    "transformer": _transformer,
    "vision_transformer": _vision_transformer,
    "shuffle": _shuffle,
    "dense": _dense,
    "large": _large,
    "residual_stages": staged(residual_block, 16, 384),
    "inverted_stages": staged(inverted_block, 8, 192),
    "shuffle_stages": staged(shuffle_unit, 32, 384),
    "dense_stages": staged(dense_layers, 16, 192),
}
SEQUENCES: dict[str, Callable[[Rng], Builder]] = {"recurrent": _recurrent, "signal": _signal}
"""Kinds that ONNX Runtime has kernels for and our LiteRT writer has not."""
