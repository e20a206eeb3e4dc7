"""The kernels of one network with their channel counts as functions of the widths of the dense network's groups."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from hwprofiles.kernels import goes_by_groups, in_whole_groups
from hwprofiles.workload import GRAPH_INPUT, Workload
from search.graph.flow import Ids
from search.graph.ir import Array, Graph
from search.graph.run import fuse
from search.space.groups import Groups
from search.space.plan import Knobs, Plan, PlanKey, blocks_of, plan_key

Widths = Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Count:
    """Channels of one side of a kernel: a fixed number plus so many per unit of every group."""

    fixed: int
    per_unit: tuple[tuple[str, float], ...] = ()

    def at(self, widths: Widths, full: Widths) -> int:
        """The channel count; groups that are not named are whole."""
        total = self.fixed + sum(share * widths.get(group, full[group]) for group, share in self.per_unit)
        return max(1, round(total))


@dataclasses.dataclass(frozen=True)
class Sided:
    """A kernel at full width, and what its two sides count.

    Which kernels it reads is left out, only their number counts: equal kernels cost the same wherever they are.
    """

    kernel: Workload
    source: Count
    sink: Count

    def at(self, widths: Widths, full: Widths) -> Workload:
        """The kernel at some widths."""
        return with_channels(self.kernel, self.source.at(widths, full), self.sink.at(widths, full))


def with_channels(kernel: Workload, c_in: int, c_out: int) -> Workload:
    """The kernel with other channel counts, the nearest that its groups allow; where groups go as a whole, there are fewer."""
    if (c_in, c_out) == (kernel.c_in, kernel.c_out):
        return kernel
    if not each_channel_alone(kernel):
        c_in, c_out = map(int, in_whole_groups(kernel, c_in, c_out))
    groups = c_in // (kernel.c_in // kernel.groups) if goes_by_groups(kernel) else kernel.groups
    return dataclasses.replace(kernel, c_in=c_in, c_out=c_out, groups=groups)


def each_channel_alone(kernel: Workload) -> bool:
    """Whether a convolution has a group for every input channel."""
    return kernel.kind == "conv" and kernel.groups == kernel.c_in > 1


class Lowered:
    """A network as kernels, at any widths."""

    def __init__(self, graph: Graph, groups: Groups, counts: dict[tuple[str, int], Count]) -> None:
        """Fuse once.

        Args:
            graph: the dense network or one with blocks replaced.
            groups: of the dense network.
            counts: remembers how a value's channels divide, which is the same in every variant.
        """

        def count(value: str, channels: int) -> Count:
            if (value, channels) not in counts:
                counts[value, channels] = _count(groups.value_ids.get(value), channels, groups)
            return counts[value, channels]

        shapes = {**groups.shapes, **{name: value.shape for name, value in graph.initializers.items()}}
        kernels = fuse.workloads(graph, shapes, groups.static)
        nodes = {node.name: node for node in graph.nodes}
        self._whole = kernels
        self.kernels: list[Sided] = []
        for kernel in kernels:
            node = nodes[kernel.name]
            result = next(name for name in node.outputs if name)
            source = next((name for name in node.inputs if name in groups.value_ids), result)
            sides = count(source, kernel.c_in), count(result, kernel.c_out)
            self.kernels.append(
                Sided(dataclasses.replace(kernel, sources=(GRAPH_INPUT,) * len(kernel.sources)), *sides)
            )

    def workloads(self, widths: Widths, full: Widths) -> list[Workload]:
        """The kernels at these widths, each with the places of those that it reads."""
        return [
            with_channels(kernel, sided.source.at(widths, full), sided.sink.at(widths, full))
            for sided, kernel in zip(self.kernels, self._whole, strict=True)
        ]


class Kernels:
    """The kernels of a network and of its variants, whatever the target: each set of replaced blocks is lowered once."""

    def __init__(self, knobs: Knobs) -> None:
        """Nothing is lowered until it is asked for."""
        self._knobs = knobs
        self._lowered: dict[PlanKey, Lowered] = {}
        self._counts: dict[tuple[str, int], Count] = {}

    def of(self, plan: Plan) -> Lowered:
        """Those under a plan's blocks, at any width."""
        settings = blocks_of(plan)
        key = plan_key(settings)
        if key not in self._lowered:
            self._lowered[key] = Lowered(self._knobs.network(settings), self._knobs.groups, self._counts)
        return self._lowered[key]


def _count(ids: Ids | None, channels: int, groups: Groups) -> Count:
    """How the channels of an activation divide over groups."""
    along = _along_channels(ids, channels)
    if along is None:
        return Count(channels)
    owners = groups.owners[np.minimum(along, len(groups.owners) - 1)]
    held = [(groups.prunable[i], n) for i, n in enumerate(np.bincount(owners[owners >= 0]).tolist()) if n]
    shares = tuple((group.id, n / len(group)) for group, n in held)
    return Count(channels - sum(n for _, n in held), shares)


def _along_channels(ids: Ids | None, channels: int) -> Array | None:
    """Ids along the axis that holds the kernel's channels: axis 1 or the last one, where units change if both are as long."""
    if ids is None or ids.ndim < 2 or not ids.size:
        return None
    last = ids.ndim - 1
    fitting = [axis for axis in ((1, last) if ids.ndim > 3 else (last, 1)) if ids.shape[axis] == channels]
    if not fitting:
        return None
    every = [np.moveaxis(ids, axis, 0).reshape(channels, -1)[:, 0] for axis in fitting]
    return next((along for along in every if (along != along[0]).any()), every[0])
