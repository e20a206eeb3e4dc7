"""Exports of torch, imported, run, differentiated and cut: ``python -m tests.benchmarks.torch_exports [name]``.

Needs torch 2.13 and onnxscript. Prints a table: exporter, architecture, error to ONNX Runtime, share of the parameters that
can go, error of the cut file to the masked one, groups, and what is frozen and why.
"""

# mypy: ignore-errors
# torch is not installed where types are checked.
from __future__ import annotations

import io
import sys
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import torch

from search.graph import execute, onnx_export, onnx_import
from search.graph.ir import Graph
from search.prune import surgery
from search.prune.groups import Group, Groups, Keep, find_groups
from tests.benchmarks.architectures import ARCHITECTURES
from tests.search.graph.nets import relative_error, run_ort
from tests.search.prune.laws import keep_some

EXPORTERS = ("torchscript-17", "dynamo-18")
ATTENTION = ("ViT-small", "Swin-tiny", "BERT-small", "GPT, grouped queries")
DIFFERENTIATED = ("VGG-16", "MobileNetV2", "ViT-small", "GPT, grouped queries", "LSTM", "U-Net")


class Row(NamedTuple):
    """One architecture through one exporter."""

    name: str
    exporter: str
    error: float
    """Of the JAX engine to ONNX Runtime, at another batch size than exported where that is free."""
    removable: float
    """Share of the float parameters that would go if every group kept one unit."""
    cut_error: float
    """Of the cut file to the masked file, both in ONNX Runtime."""
    cut_share: float
    groups: int
    frozen: Counter[str]
    dynamic: bool
    heads_error: float | None
    """As ``cut_error`` after half of the attention heads went, whole, and nothing else; None without attention."""


def export(name: str, exporter: str) -> tuple[torch.nn.Module, Any, bytes]:
    """The network in evaluation mode with batch statistics away from the trivial ones, an input, the file."""
    torch.manual_seed(0)
    build, example = ARCHITECTURES[name]
    model, x = build().eval(), example()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr, operator]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr, operator]
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter.startswith("torchscript"):
            torch.onnx.export(
                model, (x,), file, opset_version=17, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "N"}}
            )
        else:
            program = torch.onnx.export(
                model,
                (x,),
                opset_version=18,
                dynamo=True,
                input_names=["x"],
                dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
                verbose=False,
            )
            assert program is not None
            file = io.BytesIO(program.model_proto.SerializeToString())
    return model, x, file.getvalue()


def examine(name: str, exporter: str) -> Row:
    """Import, run, couple, cut 40 %, compare."""
    _, x, data = export(name, exporter)
    graph = onnx_import.load(data)
    (info,) = graph.inputs
    dynamic = not isinstance(info.shape[0], int)
    example = x.numpy()
    feeds = {info.name: np.concatenate([example, example[:1]]) if dynamic else example}
    expected = run_ort(data, feeds)
    outputs = jax.jit(lambda values: execute.forward(graph)({}, values))(feeds)
    found = find_groups(graph, {info.name: (1, *example.shape[1:])})
    smaller, cut_error = _cut_error(graph, found, keep_some(found, share=0.6), feeds)
    heads = {group.id: np.arange(len(group)) % 2 == 0 for group in found.prunable if _is_heads(group)}
    heads = heads if name in ATTENTION else {}
    assert heads or name not in ATTENTION, "no attention heads were found"
    total = _size(graph)
    return Row(
        name, exporter, relative_error([np.asarray(o) for o in outputs], expected), _removable(found, graph) / total, cut_error,
        1 - _size(smaller) / total, len(found.prunable), Counter(_why(group.reason) for group in found.frozen), dynamic,
        _cut_error(graph, found, heads, feeds)[1] if heads else None,
    )  # fmt: skip


def _cut_error(
    graph: Graph, found: Groups, keep: Keep, feeds: Mapping[str, np.ndarray[Any, Any]]
) -> tuple[Graph, float]:
    """The cut graph, and its error to the masked one in ONNX Runtime."""
    masked = graph.with_initializers(surgery.mask(graph.initializers, found, keep))
    smaller = surgery.cut(graph, found, keep)
    pair = [run_ort(onnx_export.export(g), feeds) for g in (smaller, masked)]
    return smaller, relative_error(*pair)


def _is_heads(group: Group) -> bool:
    """Whether a unit is a block of features side by side, as a head's are; a gate's lie apart."""
    ids = [slot.ids[np.isin(slot.ids, group.units)] for slot in group.slots if slot.role == "produces"]
    return any(len(a) > len(group) and (a[:-1] == a[1:]).any() for a in ids)


def _size(graph: Any) -> int:
    return sum(graph.initializers[name].size for name in execute.trainable(graph))


def _removable(found: Groups, graph: Any) -> float:
    """Parameters gone when every group keeps a single unit."""
    keep = {group.id: np.arange(len(group)) == 0 for group in found.prunable}
    return _size(graph) - _size(surgery.cut(graph, found, keep)) if keep else 0.0


def _why(reason: str) -> str:
    return reason.rsplit("`: ", maxsplit=1)[-1]


def gradient_error(name: str, exporter: str = "torchscript-17") -> float:
    """Largest difference of gradients to torch's, over the largest gradient; weights are matched by their values."""
    model, x, data = export(name, exporter)
    graph = onnx_import.load(data)
    model.zero_grad()
    model(x).square().sum().backward()
    weights = execute.trainable(graph)
    run = execute.forward(graph)
    gradients = jax.grad(lambda p: (run(p, {graph.inputs[0].name: x.numpy()})[0] ** 2).sum())(
        {name: graph.initializers[name] for name in weights}
    )
    worst, matched = 0.0, 0
    for parameter in model.parameters():
        value = parameter.detach().numpy()
        for weight in weights:
            stored = graph.initializers[weight]
            for oriented in (stored, stored.T):
                if value.ndim > 1 and oriented.shape == value.shape and np.array_equal(oriented, value):
                    mine = np.asarray(gradients[weight])
                    mine = mine if oriented is stored else mine.T
                    theirs = parameter.grad.numpy()  # type: ignore[union-attr]
                    worst = max(worst, float(np.abs(mine - theirs).max() / max(np.abs(theirs).max(), 1e-6)))
                    matched += 1
    assert matched, "no weight of the file equals one of torch's"
    assert all(np.isfinite(g).all() for g in gradients.values())
    return worst


def main() -> None:
    """Print the table."""
    pattern = sys.argv[1] if len(sys.argv) > 1 else ""
    print(
        f"{'architecture':28} {'exporter':15} {'error':>8} {'prunable':>8} {'cut err':>8} {'cut':>5} groups   heads "
        "dynamic frozen"
    )
    for name in ARCHITECTURES:
        for exporter in EXPORTERS:
            if pattern in name:
                try:
                    row = examine(name, exporter)
                except Exception as error:  # noqa: BLE001 - a row that fails is a row of the table
                    print(f"{name:28} {exporter:15} {type(error).__name__}: {str(error)[:300]!r}")
                    continue
                why = "; ".join(f"{count} x {reason}" for reason, count in row.frozen.items())
                cells = (
                    f"{row.error:8.1e} {row.removable:8.1%} {row.cut_error:8.1e} {row.cut_share:5.0%} {row.groups:6}"
                )
                heads = "   -   " if row.heads_error is None else f"{row.heads_error:7.1e}"
                print(f"{name:28} {exporter:15} {cells} {heads} {row.dynamic!s:7} {why}", flush=True)
    for name in (name for name in DIFFERENTIATED if pattern in name):
        print(f"{name:28} gradient against torch's: {gradient_error(name):.1e}", flush=True)


if __name__ == "__main__":
    main()
