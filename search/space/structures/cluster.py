"""Where a phone's CPU runs zeros: LiteRT with XNNPACK takes 1x1 convolutions as sparse products, all of a cluster or none.

The cluster begins with the stem, a 3x3 convolution of the image with stride 2 and explicit padding, and ends with a mean over
height and width. Between them only 1x1 convolutions of stride 1, depthwise 3x3 or 5x5 ones and element-wise operators may
stand, and more than 2/3 of all weights of the 1x1 convolutions together must be zero. With a dense 3x3 in between, the
runtime's outputs are wrong, so that a cluster is taken only if it is whole. Source: the conditions in the phones' profiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hwprofiles.device import DeviceProfile
from hwprofiles.rules import sparsity_rule
from search.graph.ir import Array, Graph, Node
from search.graph.ops import of
from search.space.structures.pattern import Pattern

LEVELS = (0.7, 0.8, 0.9)
"""Shares of zeros of a layer in a sparse cluster. Each is above 2/3, so that the cluster is, at any widths."""
NM_FACTOR = 0.85
"""2:4 halves the products, but whole networks are published to gain at most 15 % (see the profiles' source)."""
DEPTHWISE_KERNELS = ((3, 3), (5, 5))
Shapes = Mapping[str, Sequence[int]]


def find_cluster(graph: Graph, shapes: Shapes) -> tuple[str, ...] | str:
    """Names of the 1x1 convolutions of a whole cluster, or in words what stands against it.

    Args:
        graph: a normalised graph.
        shapes: value name to shape at batch 1.
    """
    stems = [node for node in graph.nodes if node.inputs[:1] == (graph.inputs[0].name,)]
    if len(stems) != 1 or not _is_stem(stems[0], graph, shapes):
        return "the network does not begin with a padded 3x3 convolution of 3 channels with stride 2"
    inside, pointwise, tails = {stems[0].outputs[0]}, [], 0
    for node in graph.nodes:
        active = [name for name in node.inputs if name and name not in graph.initializers]
        if node.name == stems[0].name or not inside.intersection(active):
            continue
        if _is_tail(node, graph):
            tails += 1
            continue
        if not inside.issuperset(active) or not _fits(node, graph, shapes):
            return f"`{node.name}` ({node.op}) is neither 1x1, depthwise nor element-wise inside the cluster"
        inside.update(node.outputs)
        if _kernel(node, graph) == (1, 1) and int(node.get("group", 1)) == 1:
            pointwise.append(node.name)
    if tails == 0 or any(info.name in inside for info in graph.outputs):
        return "the network does not end with a mean over height and width"
    return tuple(pointwise) or "there is no 1x1 convolution"


def runs_zeros(profile: DeviceProfile, graph: Graph, shapes: Shapes) -> tuple[str, ...] | str:
    """Convolutions whose zeros a target skips, or the reason why it skips none."""
    rule = sparsity_rule("unstructured", profile)
    if not rule.executed:
        return rule.reason
    if not _is_xnnpack(profile):
        return f"no rule is known that says where {profile.runtime} {profile.dtype} skips zeros"
    return find_cluster(graph, shapes)


def _is_xnnpack(profile: DeviceProfile) -> bool:
    return profile.runtime == "tflite" and profile.dtype in ("fp32", "fp16")


def time_factor(zeros: Array | float, profile: DeviceProfile, pattern: Pattern = "unstructured") -> Array:
    """Time of a sparse kernel over the dense one's; 1 where the target does not skip zeros.

    Time is taken in proportion to the weights left, with no gain at the profile's ``min_level``, where the runtime begins
    to use sparse kernels. From 2/3 that is 1.7 times as fast a kernel at 80 % zeros and 3.3 at 90 %; whole MobileNets are
    published at 1.2 to 2.4 (Elsen et al., 2020). It is not validated by a measurement.
    """
    rule = sparsity_rule(pattern, profile)
    if not rule.executed or (pattern == "unstructured" and not _is_xnnpack(profile)):
        return np.ones(np.shape(zeros))
    least = rule.min_level
    if pattern == "nm":
        return np.where(np.asarray(zeros) >= least, NM_FACTOR, 1.0)
    return np.minimum(1.0, (1 - np.asarray(zeros)) / (1 - least))


def _kernel(node: Node, graph: Graph) -> tuple[int, ...]:
    weight = graph.initializers.get(node.input(1)) if node.op == "Conv" else None
    return () if weight is None else weight.shape[2:]


def _is_stem(node: Node, graph: Graph, shapes: Shapes) -> bool:
    return (
        _kernel(node, graph) == (3, 3)
        and shapes[node.inputs[0]][1] == 3
        and list(node.get("strides", [1, 1])) == [2, 2]
        and node.get("auto_pad", "NOTSET") == "NOTSET"
        and any(node.get("pads", [0]))
    )


def _is_tail(node: Node, graph: Graph) -> bool:
    if node.op == "GlobalAveragePool":
        return True
    axes = graph.initializers.get(node.input(1), node.get("axes", ()))
    return node.op == "ReduceMean" and sorted(int(a) % 4 for a in np.asarray(axes).reshape(-1)) == [2, 3]


def _fits(node: Node, graph: Graph, shapes: Shapes) -> bool:
    entry = of(node)
    if entry is not None and entry.in_cluster:
        return True
    kernel, strides = _kernel(node, graph), list(node.get("strides", [1, 1]))
    if kernel == (1, 1):
        return int(node.get("group", 1)) == 1 and strides == [1, 1]
    depthwise = int(node.get("group", 1)) == shapes[node.inputs[0]][1] > 1
    return depthwise and kernel in DEPTHWISE_KERNELS and strides in ([1, 1], [2, 2])
