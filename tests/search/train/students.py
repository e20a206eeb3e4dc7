"""A small image classifier and what teaches its pruned copies, for tests of training."""

from __future__ import annotations

import numpy as np

from search.graph.ir import Array, Graph
from search.graph.onnx.read import load
from search.input.data import Part
from search.space.groups import Groups, find_groups
from search.space.surgery import cut, mask
from search.train.trainer import Trainer
from tests.search.graph.nets import Net, images


def network() -> tuple[Graph, Groups]:
    """One residual block with a batch norm inside, and its coupling; the input is (N, 3, 8, 8)."""
    net = Net()
    x = net.op("Relu", net.conv("x", 3, 8))
    y = net.op("Relu", net.batch_norm(net.conv(x, 8, 6), 6))
    net.classifier(net.op("Relu", net.op("Add", net.conv(y, 6, 8), x)), 8)
    graph = load(net.bytes())
    return graph, find_groups(graph, {"x": (1, 3, 8, 8)})


def narrowed(graph: Graph, groups: Groups) -> tuple[Graph, dict[str, Array]]:
    """The network without the last third of every group, unrepaired, and the units that stay."""
    keep = {group.id: np.arange(len(group)) < 2 * len(group) // 3 for group in groups.prunable}
    masked = graph.with_initializers(mask(graph.initializers, groups, keep))
    return cut(masked, groups, keep), keep


def trainer(graph: Graph, groups: Groups, *, labels: Array | None = None, samples: int = 128) -> Trainer:
    """Random images; labels as given."""
    feeds = {"x": images(samples, 3, 8, 8)}
    held_out = Part({"x": images(64, 3, 8, 8, seed=2)}, None)
    return Trainer(graph, groups.shapes, Part(feeds, labels), held_out, seed=0)
