"""Exports of torch, imported, run, differentiated and cut: ``python -m tests.benchmarks.torch_exports [name]``.

Needs torch 2.13 and onnxscript. Both exporters write with their defaults: the batch of the example is fixed, and the newer one
puts weights into a second file. Prints a table: exporter, architecture, error to ONNX Runtime, share of the parameters that can
go, error of the patched upload to the masked one at all sizes of the gate, groups, files, batch, and what is frozen and why.
"""

# mypy: ignore-errors
# torch is not installed where types are checked.
from __future__ import annotations

import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import torch

from search.graph.edit.patch import file_of, patch
from search.graph.onnx.read import load, read
from search.graph.run import execute
from search.graph.upload import Upload
from search.input.data import check
from search.input.sample_axes import find_samples
from search.judge.proof import Proof
from search.judge.sessions import Session, relative_difference
from search.space.groups import Group, Groups, Keep
from search.space.plan import Knobs
from search.space.surgery import cut, mask
from search.space.written import written
from search.wire.request import JobSpec
from tests.benchmarks.architectures import ARCHITECTURES
from tests.search.space.laws import keep_some

EXPORTERS = {"torchscript": {"dynamo": False}, "dynamo": {"dynamo": True, "verbose": False}}
"""Everything else as torch has it."""
ATTENTION = ("ViT-small", "Swin-tiny", "BERT-small", "GPT, grouped queries")
DIFFERENTIATED = ("VGG-16", "MobileNetV2", "ViT-small", "GPT, grouped queries", "LSTM", "U-Net")
BATCHES = 4
"""Of the example, in the data set; a sample more, so that the last batch is not full."""


class Row(NamedTuple):
    """One architecture through one exporter."""

    name: str
    exporter: str
    error: float
    """Of the JAX engine to ONNX Runtime, on samples that fill more than a batch."""
    removable: float
    """Share of the float parameters that would go if every group kept one unit."""
    cut_error: float
    """Of the patched file to the masked one, both in ONNX Runtime."""
    cut_share: float
    groups: int
    files: int
    batch: int | None
    """That the file takes; None: any."""
    frozen: Counter[str]
    heads_error: float | None
    """As ``cut_error`` after half of the attention heads went, whole, and nothing else; None without attention."""


def export(name: str, exporter: str) -> tuple[torch.nn.Module, Any, Upload]:
    """The network in evaluation mode with batch statistics away from the trivial ones, an input, what was written."""
    torch.manual_seed(0)
    build, example = ARCHITECTURES[name]
    model, x = build().eval(), example()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr, operator]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr, operator]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.onnx"
        torch.onnx.export(model, (x,), path, **EXPORTERS[exporter])
        return model, x, Upload.read(path)


def examine(name: str, exporter: str) -> Row:
    """Import, run, couple, cut 40 % in the file, compare."""
    _, x, upload = export(name, exporter)
    (info,) = read(upload).inputs
    samples = np.concatenate([x.numpy()] * BATCHES + [x.numpy()[:1]])
    placing = find_samples(upload, JobSpec(), {info.name: samples})
    graph = load(upload, placing)
    feeds = check({info.name: samples}, graph, placing.samples).feeds
    expected = Session(upload.whole, graph.sampling, threads=1)(feeds)
    outputs = jax.jit(lambda values: execute.forward(graph)({}, values))(feeds)
    knobs = Knobs(graph, graph.sampling.shapes({info.name: feeds[info.name].shape[1:]}))
    proof = Proof(file_of(graph), graph, feeds)
    smaller, cut_error = _cut_error(knobs, proof, keep_some(knobs.groups, share=0.6))
    heads = {group.id: np.arange(len(group)) % 2 == 0 for group in knobs.groups.prunable if _is_heads(group)}
    heads = heads if name in ATTENTION else {}
    assert heads or name not in ATTENTION, "no attention heads were found"
    total = _size(graph)
    return Row(
        name, exporter, relative_difference([np.asarray(o) for o in outputs], expected),
        _removable(knobs.groups, graph) / total, cut_error, 1 - _size(smaller) / total, len(knobs.groups.prunable),
        1 + len(upload.files), graph.sampling.batch, Counter(_why(group.reason) for group in knobs.groups.frozen),
        _cut_error(knobs, proof, heads)[1] if heads else None,
    )  # fmt: skip


def _cut_error(knobs: Knobs, proof: Proof, keep: Keep) -> tuple[Any, float]:
    """The cut graph, and the largest difference of the upload patched so to the masked upload in ONNX Runtime."""
    graph = knobs.graph
    masked = mask(graph.initializers, knobs.groups, keep)
    mine, smaller = written(graph, knobs.variant({}), keep, masked)
    return smaller, proof.difference(mine.model, patch(graph, graph.with_initializers(masked), {}).model)


def _is_heads(group: Group) -> bool:
    """Whether a unit is a block of features side by side, as a head's are; a gate's lie apart."""
    ids = [slot.ids[np.isin(slot.ids, group.units)] for slot in group.slots if slot.role == "produces"]
    return any(len(a) > len(group) and (a[:-1] == a[1:]).any() for a in ids)


def _size(graph: Any) -> int:
    return sum(graph.initializers[name].size for name in execute.trainable(graph))


def _removable(found: Groups, graph: Any) -> float:
    """Parameters gone when every group keeps a single unit."""
    keep = {group.id: np.arange(len(group)) == 0 for group in found.prunable}
    return _size(graph) - _size(cut(graph, found, keep)) if keep else 0.0


def _why(reason: str) -> str:
    return reason.rsplit("`: ", maxsplit=1)[-1]


def gradient_error(name: str, exporter: str = "torchscript") -> float:
    """Largest difference of gradients to torch's, over the largest gradient; weights are matched by their values."""
    model, x, upload = export(name, exporter)
    graph = load(upload)
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
        f"{'architecture':28} {'exporter':11} {'error':>8} {'prunable':>8} {'cut err':>8} {'cut':>5} groups   heads "
        "files batch frozen"
    )
    for name in ARCHITECTURES:
        for exporter in EXPORTERS:
            if pattern in name:
                try:
                    row = examine(name, exporter)
                except Exception as error:  # noqa: BLE001 - a row that fails is a row of the table
                    print(f"{name:28} {exporter:11} {type(error).__name__}: {str(error)[:300]!r}")
                    continue
                why = "; ".join(f"{count} x {reason}" for reason, count in row.frozen.items())
                cells = (
                    f"{row.error:8.1e} {row.removable:8.1%} {row.cut_error:8.1e} {row.cut_share:5.0%} {row.groups:6}"
                )
                heads = "   -   " if row.heads_error is None else f"{row.heads_error:7.1e}"
                print(
                    f"{name:28} {exporter:11} {cells} {heads} {row.files:5} {row.batch or 'free':>5} {why}", flush=True
                )
    for name in (name for name in DIFFERENTIATED if pattern in name):
        print(f"{name:28} gradient against torch's: {gradient_error(name):.1e}", flush=True)


if __name__ == "__main__":
    main()
