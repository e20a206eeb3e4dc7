"""How well a fresh calibration predicts whole pruned networks on this machine, beside what FLOPs predict.

    python -m tests.benchmarks.host_latency [--runtime litert] [--seed 1] [--variants 12]

Fits to random networks, as `calibrate` does, and judges on networks of seven families, pruned to random levels on and off the
grid, that the fit has not seen. Both sets are timed in the same rounds, so that a change of the machine's load or
clock speed hits both: the table speaks of the model alone.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from hwprofiles.device import DeviceProfile
from hwprofiles.fit import MeasuredNetwork, held_out_error
from hwprofiles.latency import latency_interval_s, network_latency_s
from search.measure.calibrate.builder import Builder, MicroNetwork, Rng
from search.measure.calibrate.calibration import host_profile, measure, random_networks
from search.measure.calibrate.stages import residual
from search.measure.runtimes import RUNTIMES


def pruning(rng: Rng) -> Callable[[int], int]:
    """How one network is pruned: to a level of its own, 30 to 100 % of the channels, each layer up to 25 points off it.

    Half of the widths are multiples of 16, a quarter of 4, a quarter anything.
    """
    level = rng.uniform(0.3, 1.0)

    def prune(width: int) -> int:
        kept = min(1.0, max(0.1, level + rng.uniform(-0.25, 0.25))) * width
        step = int(rng.choice([16, 4, 1], p=[0.5, 0.25, 0.25]))
        return max(step, round(kept / step) * step)

    return prune


def cifar_resnet(rng: Rng, blocks: int | None = None) -> Builder:
    """ResNet-20, 32, 44 or 56 (3 to 9 blocks a stage) for 32 x 32 pictures, inner widths and stages pruned."""
    prune = pruning(rng)
    net = Builder(rng, 3, 32)
    blocks = blocks or int(rng.choice([3, 5, 7, 9]))
    stages = [prune(width) for width in (16, 32, 64)]
    net.conv(stages[0])
    for stage, outer in enumerate(stages):
        for block in range(blocks):
            residual(net, prune(16 << stage), outer, 2 if stage and not block else 1)
    net.head(flatten=False)
    return net


def resnet18(rng: Rng) -> Builder:
    """ResNet-18 on 64 to 112 pixels."""
    prune = pruning(rng)
    net = Builder(rng, 3, int(rng.choice([64, 96, 112])))
    net.conv(prune(64), 7, 2)
    net.pool()
    for stage in range(4):
        outer = prune(64 << stage)
        for block in range(2):
            residual(net, prune(64 << stage), outer, 2 if stage and not block else 1)
    net.head(flatten=False)
    return net


def mobilenetv2(rng: Rng) -> Builder:
    """MobileNetV2 on 64 to 128 pixels; ReLU stands for ReLU6."""
    prune = pruning(rng)
    net = Builder(rng, 3, int(rng.choice([64, 96, 128])))
    net.conv(prune(32), stride=2)
    for expand, width, repeats, stride in [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                                           (6, 160, 3, 2), (6, 320, 1, 1)]:  # fmt: skip
        outer = prune(width)
        for repeat in range(repeats):
            shortcut, into = net.value, net.channels
            if expand > 1:
                net.conv(prune(expand * width), 1)
            net.depthwise(3, stride if repeat == 0 else 1)
            net.conv(outer, 1, relu=False)
            if into == outer and (stride == 1 or repeat):
                net.add(shortcut)
    net.conv(prune(1280), 1)
    net.head(flatten=False)
    return net


def vgg(rng: Rng) -> Builder:
    """VGG-16 for 32 x 32 pictures."""
    prune = pruning(rng)
    net = Builder(rng, 3, 32)
    for width, repeats in [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]:
        for _ in range(repeats):
            net.conv(prune(width))
        net.pool()
    net.head(flatten=True)
    return net


def densenet(rng: Rng) -> Builder:
    """DenseNet of three blocks with a growth of 12 to 32 channels, on 32 to 64 pixels."""
    prune = pruning(rng)
    net = Builder(rng, 3, int(rng.choice([32, 64])))
    growth, layers = int(rng.choice([12, 16, 24, 32])), int(rng.choice([4, 6, 8]))
    net.conv(prune(2 * growth))
    for block in range(3):
        for _ in range(layers):
            before, channels = net.value, net.channels
            net.batch_norm()
            net.conv(prune(4 * growth), 1)
            net.conv(prune(growth), relu=False)
            net.concat(before, net.value, channels=channels + net.channels)
        net.batch_norm()
        if block < 2:
            net.conv(prune(net.channels // 2), 1, relu=False)
            net.pool()
    net.head(flatten=False)
    return net


def shufflenetv2(rng: Rng) -> Builder:
    """ShuffleNetV2 on 64 to 128 pixels; a stage's width is pruned as a whole, its units inside."""
    prune = pruning(rng)
    net = Builder(rng, 3, int(rng.choice([64, 96, 128])))
    net.conv(prune(24), 3, 2)
    net.pool(3, 2)
    for width, repeats in [(116, 4), (232, 8), (464, 4)]:
        half = prune(width // 2)
        for repeat in range(repeats):
            left, net.value = net.split(net.channels // 2) if repeat else (net.value, net.value)
            into = net.channels = net.channels // 2 if repeat else net.channels
            size = net.size
            net.conv(prune(width // 2), 1)
            net.depthwise(3, 1 if repeat else 2)
            right, after = net.conv(half, 1), net.size
            if not repeat:
                net.value, net.channels, net.size = left, into, size
                net.depthwise(3, 2)
                left = net.conv(half, 1)
            net.size = after
            net.concat(left, right, channels=2 * half)
            net.shuffle()
    net.conv(prune(1024), 1)
    net.head(flatten=False)
    return net


def vit(rng: Rng) -> Builder:
    """A vision transformer of 3 to 6 blocks on 64 to 128 pixels, heads and inner widths pruned."""
    prune = pruning(rng)
    net = Builder(rng, 3, int(rng.choice([64, 96, 128])))
    width = int(rng.choice([96, 128, 192, 256]))
    net.conv(width, 16, 16, pad=0, relu=False)
    tokens = net.tokens()
    for _ in range(rng.integers(3, 7)):
        shortcut = net.value
        net.layer_norm()
        net.attention(tokens, int(rng.integers(1, width // 32 + 1)), 32)
        shortcut = net.sum(shortcut)
        net.layer_norm()
        net.dense(prune(4 * width))
        net.gelu()
        net.dense(width)
        net.sum(shortcut)
    net.layer_norm()
    net.token_head()
    return net


FAMILIES: dict[str, Callable[[Rng], Builder]] = {
    "cifar_resnet": cifar_resnet,
    "resnet18": resnet18,
    "mobilenetv2": mobilenetv2,
    "vgg": vgg,
    "densenet": densenet,
    "shufflenetv2": shufflenetv2,
    "vit": vit,
}


def pruned_networks(variants: int, seed: int) -> list[MicroNetwork]:
    """``variants`` networks of each family."""
    rng = np.random.default_rng(seed)
    return [build(rng).build(family) for family, build in FAMILIES.items() for _ in range(variants)]


def print_table(tested: Sequence[MeasuredNetwork], profile: DeviceProfile) -> None:
    """One line a family and one for all; FLOPs get the one scale factor that fits them best."""
    measured_s = np.array([net.latency_s for net in tested])
    predicted_s = np.array([network_latency_s(net.workloads, profile) for net in tested])
    macs = np.array([float(sum(workload.macs for workload in net.workloads)) for net in tested])
    flops_s = macs * np.median(measured_s / macs)
    low_s, high_s = np.array([latency_interval_s(s, profile) for s in predicted_s]).T
    inside = (low_s <= measured_s) & (measured_s <= high_s)
    print(f"{'family':14}{'n':>4}{'MAPE':>8}{'Spearman':>10}{'in 90 %':>9}{'FLOPs MAPE':>12}{'FLOPs Spearman':>16}")
    for family in [*FAMILIES, "all"]:
        of = np.array([family in {"all", net.name.split("-")[0]} for net in tested])
        ours, theirs = held_out_error(predicted_s[of], measured_s[of]), held_out_error(flops_s[of], measured_s[of])
        print(f"{family:14}{ours.n:4}{ours.mape:8.1%}{ours.spearman:10.3f}{inside[of].mean():9.0%}{theirs.mape:12.1%}"
              f"{theirs.spearman:16.3f}")  # fmt: skip


def main() -> None:
    """Calibrate, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtime", choices=list(RUNTIMES), default="onnxruntime")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--variants", type=int, default=12)
    parser.add_argument("--budget-s", type=float, default=60.0)
    options = parser.parse_args()
    unseen = pruned_networks(options.variants, options.seed + 1)
    networks = itertools.chain(random_networks(options.seed, sequences=True), unseen)
    rows = measure(networks, runtime_name=options.runtime, budget_s=options.budget_s)
    profile = host_profile(f"host-cpu-{options.runtime}", rows[: -len(unseen)], runtime_name=options.runtime)
    print(f"fitted to {len(rows) - len(unseen)} networks; error on those kept aside: {profile.held_out_error}")
    print_table(rows[-len(unseen) :], profile)


if __name__ == "__main__":
    main()
