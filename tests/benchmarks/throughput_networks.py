"""Three published networks in torch, at full width and with batch norms folded, and the seconds of their gradients.

``python throughput_networks.py FOLDER`` writes FOLDER/<name>.onnx, prints ``ready`` and then answers every line
``<name> <batch> <calls>`` with the CPU seconds of one gradient on one thread. It needs torch and nothing of ours, so
that it can run under a Python of its own. ``throughput_networks.py FOLDER <name> <batch>`` prints the MiB that one gradient adds
to the largest memory of a fresh process.
"""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN204, D101, D102
# torch is not installed where types are checked; the blocks say themselves what they are.
from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import torch
from torch import nn


class Residual(nn.Module):
    def __init__(self, body, shortcut=None, act=None):
        super().__init__()
        self.body, self.shortcut, self.act = body, shortcut or nn.Identity(), act or nn.Identity()

    def forward(self, x):
        return self.act(self.body(x) + self.shortcut(x))


def conv(c_in, c_out, k=3, stride=1, groups=1, act=nn.ReLU):
    layers = [nn.Conv2d(c_in, c_out, k, stride, k // 2, groups=groups)]
    return nn.Sequential(*layers, *([act()] if act else []))


def basic_stages(stem, widths, depth):
    """Residual stages of two 3x3 convolutions a block."""
    layers, before = [], stem
    for stage, width in enumerate(widths):
        for block in range(depth):
            stride = 2 if stage and not block else 1
            shortcut = conv(before, width, 1, stride, act=None) if stride > 1 or before != width else None
            body = nn.Sequential(conv(before, width, 3, stride), conv(width, width, act=None))
            layers.append(Residual(body, shortcut, nn.ReLU()))
            before = width
    return layers


def head(channels, classes):
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]


def resnet56():
    return nn.Sequential(conv(3, 16), *basic_stages(16, (16, 32, 64), 9), *head(64, 10))


def resnet18():
    stem = [conv(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
    return nn.Sequential(*stem, *basic_stages(64, (64, 128, 256, 512), 2), *head(512, 1000))


def inverted(c_in, c_out, expand, stride):
    middle = c_in * expand
    widen = [conv(c_in, middle, 1, act=nn.ReLU6)] if expand > 1 else []
    body = nn.Sequential(
        *widen, conv(middle, middle, 3, stride, middle, act=nn.ReLU6), conv(middle, c_out, 1, act=None)
    )
    return Residual(body) if stride == 1 and c_in == c_out else body


def mobilenetv2():
    layers, before = [conv(3, 32, 3, 2, act=nn.ReLU6)], 32
    for expand, width, repeats, stride in [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                                           (6, 160, 3, 2), (6, 320, 1, 1)]:  # fmt: skip
        for repeat in range(repeats):
            layers.append(inverted(before, width, expand, stride if repeat == 0 else 1))
            before = width
    return nn.Sequential(*layers, conv(before, 1280, 1, act=nn.ReLU6), *head(1280, 1000))


NETWORKS = {"ResNet-56": (resnet56, 32), "MobileNetV2": (mobilenetv2, 64), "ResNet-18": (resnet18, 64)}


def gradient_s(model, x, calls):
    """CPU seconds of one gradient of all weights, the mean of ``calls``."""
    start = time.process_time()
    for _ in range(calls):
        model.zero_grad()
        model(x).square().sum().backward()
    return (time.process_time() - start) / calls


def peak_mib(name, batch):
    """What three gradients add to the most memory that this process has had."""
    build, size = NETWORKS[name]
    model, x = build().eval(), torch.randn(batch, 3, size, size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gradient_s(model, x, 3)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main():
    """Export, then answer."""
    if len(sys.argv) > 2:
        print(peak_mib(sys.argv[2], int(sys.argv[3])))
        return
    torch.set_num_threads(1)
    torch.manual_seed(0)
    models = {}
    for name, (build, size) in NETWORKS.items():
        models[name] = build().eval()
        torch.onnx.export(
            models[name], (torch.randn(2, 3, size, size),), str(Path(sys.argv[1]) / f"{name}.onnx"), opset_version=17,
            dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "N"}},
        )  # fmt: skip
    print("ready", flush=True)
    for line in sys.stdin:
        name, batch, calls = line.split()
        size = NETWORKS[name][1]
        print(gradient_s(models[name], torch.randn(int(batch), 3, size, size), int(calls)), flush=True)


if __name__ == "__main__":
    main()
