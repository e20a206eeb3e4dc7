"""The peer's side of `tests.benchmarks.peer`; runs where torch and torch-pruning are, and nothing of this project.

    PYTHON peer_torch.py FOLDER CRITERION RATIO ROUND_TO SECONDS RATE

FOLDER holds ``dense.onnx`` (a CIFAR ResNet, batch norm folded, shortcuts as 1x1 convolutions), ``train.npz`` (x normalised,
y). Prunes with Torch-Pruning, widths rounded down to a multiple of ROUND_TO, recalibrates batch norm, trains for so many
seconds of CPU time at a learning rate, writes ``CRITERION-RATIO-ROUND_TO-SECONDS-RATE.onnx`` and beside it, as ``.json``,
the steps done and the loss on images kept aside.
"""

# mypy: ignore-errors
# torch is not installed where types are checked.
from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import torch
import torch_pruning
from onnx import numpy_helper
from torch import nn
from torch.nn import functional

BATCH, MOMENTUM, DECAY = 128, 0.9, 5e-4
CALIBRATION, KEPT_ASIDE = 512, 1_000


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, first: nn.Module, second: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.shortcut = first, second, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the same, perhaps halved."""
        return functional.relu(self.second(functional.relu(self.first(x))) + self.shortcut(x))


class ResNet(nn.Module):
    """The dense network of the file, with batch norm put back behind every convolution."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        graph = onnx.load(path).graph
        values = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        layers = [convolution(node, values) for node in graph.node if node.op_type == "Conv"]
        self.stem = layers.pop(0)
        blocks = []
        while layers:
            first, second = layers.pop(0), layers.pop(0)
            narrow = bool(layers) and layers[0][0].kernel_size == (1, 1)
            blocks.append(Block(first, second, layers.pop(0) if narrow else nn.Identity()))
        self.blocks = nn.Sequential(*blocks)
        last = next(node for node in graph.node if node.op_type in ("Gemm", "MatMul"))
        weight, bias = (torch.tensor(values[name]) for name in last.input[1:3])
        self.head = nn.Linear(*(weight.shape[::-1] if weight.shape[0] == len(bias) else weight.shape))
        self.head.weight.data = weight if weight.shape[0] == len(bias) else weight.T.contiguous()
        self.head.bias.data = bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, 32, 32) to (N, 10)."""
        return self.head(self.blocks(functional.relu(self.stem(x))).mean((2, 3)))


def convolution(node: onnx.NodeProto, values: dict[str, np.ndarray]) -> nn.Sequential:
    """A convolution without bias, and a batch norm that adds it."""
    weight = torch.tensor(values[node.input[1]])
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    out, into, *kernel = weight.shape
    layer = nn.Conv2d(
        into, out, kernel, attributes.get("strides", [1, 1]), attributes.get("pads", [0, 0])[:2], bias=False
    )
    layer.weight.data = weight
    norm = nn.BatchNorm2d(out, momentum=None)
    norm.bias.data = torch.tensor(values[node.input[2]]) if len(node.input) > 2 else torch.zeros(out)
    return nn.Sequential(layer, norm)


def insert_statistics(net: nn.Module, x: torch.Tensor) -> None:
    """Give every batch norm the statistics of real data and the scale and shift that leave the function unchanged."""

    def measure(norm: nn.BatchNorm2d, inputs: tuple[torch.Tensor, ...]) -> None:
        norm.running_mean = inputs[0].mean((0, 2, 3))
        norm.running_var = inputs[0].var((0, 2, 3))
        norm.weight.data = (norm.running_var + norm.eps).sqrt()
        norm.bias.data = norm.bias.data + norm.running_mean

    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    with torch.no_grad():
        net.eval()(x)
    for hook in hooks:
        hook.remove()


def prune(net: ResNet, criterion: str, ratio: float, round_to: int, x: torch.Tensor, y: torch.Tensor) -> None:
    """Torch-Pruning's own group pruner, the same share of every layer."""
    importance = torch_pruning.importance
    chosen = {"magnitude": importance.GroupMagnitudeImportance, "taylor": importance.GroupTaylorImportance}[criterion]()
    pruner = torch_pruning.pruner.BasePruner(
        net,
        x[:1],
        importance=chosen,
        pruning_ratio=ratio,
        ignored_layers=[net.head],
        round_to=round_to if round_to > 1 else None,
    )
    if criterion == "taylor":
        functional.cross_entropy(net(x), y).backward()
    pruner.step()
    net.zero_grad()


def recalibrate(net: nn.Module, x: torch.Tensor) -> None:
    """Batch norm's statistics anew (EagleEye), from images augmented as in training."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    with torch.no_grad():
        net.train()
        for part in x.split(BATCH):
            net(augmented(part))


def augmented(x: torch.Tensor) -> torch.Tensor:
    """Mirrored half of the time, shifted by up to four pixels."""
    x = torch.where((torch.rand(len(x)) < 0.5)[:, None, None, None], x.flip(3), x)
    padded = functional.pad(x, (4, 4, 4, 4))
    corners = torch.randint(0, 9, (len(x), 2)).tolist()
    return torch.stack([image[:, i : i + 32, j : j + 32] for image, (i, j) in zip(padded, corners, strict=True)])


def train(net: nn.Module, x: torch.Tensor, y: torch.Tensor, seconds: float, rate: float) -> int:
    """Cross-entropy, momentum, a cosine over the CPU seconds; the steps done."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    optimiser = torch.optim.SGD(net.parameters(), rate, MOMENTUM, weight_decay=DECAY, nesterov=True)
    start, steps = time.process_time(), 0
    net.train()
    while (share := (time.process_time() - start) / seconds) < 1:
        optimiser.param_groups[0]["lr"] = rate * 0.5 * (1 + np.cos(np.pi * share))
        index = torch.randint(0, len(x), (BATCH,))
        optimiser.zero_grad()
        functional.cross_entropy(net(augmented(x[index])), y[index]).backward()
        optimiser.step()
        steps += 1
    return steps


def main() -> None:
    """One point."""
    folder, criterion = Path(sys.argv[1]), sys.argv[2]
    ratio, round_to, seconds, rate = (float(argument) for argument in sys.argv[3:7])
    torch.manual_seed(0)
    torch.set_num_threads(1)  # the most steps for a second of CPU time
    with np.load(folder / "train.npz") as stored:
        x, y = torch.tensor(stored["x"]), torch.tensor(stored["y"])
    net = ResNet(folder / "dense.onnx")
    name = onnx.load(folder / "dense.onnx").graph.input[0].name
    insert_statistics(net, x[:CALIBRATION])
    prune(net, criterion, ratio, int(round_to), x[:CALIBRATION], y[:CALIBRATION])
    recalibrate(net, x[:CALIBRATION])
    steps = train(net, x[KEPT_ASIDE:], y[KEPT_ASIDE:], seconds, rate) if seconds else 0
    with torch.no_grad():
        loss = float(functional.cross_entropy(net.eval()(augmented(x[:KEPT_ASIDE])), y[:KEPT_ASIDE]))
    path = folder / f"{criterion}-{ratio:g}-{round_to:g}-{seconds:g}-{rate:g}.onnx"
    path.with_suffix(".json").write_text(json.dumps({"steps": steps, "loss": loss}))
    torch.onnx.export(
        net, (x[:1],), path, input_names=[name], dynamic_axes={name: {0: "N"}}, opset_version=17, dynamo=False
    )


if __name__ == "__main__":
    main()
