"""The kernels of one network with their channel counts as functions of the widths of the dense network's groups."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from hwprofiles.kernels import goes_by_groups, in_whole_groups
from hwprofiles.workload import GRAPH_INPUT, Workload
from search.graph import fuse
from search.graph.flow import Ids
from search.graph.ir import Array, Graph
from search.prune.groups import Group, Groups

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
                counts[value, channels] = _count(groups.value_ids.get(value), channels, groups.prunable)
            return counts[value, channels]

        shapes = {**groups.shapes, **{name: value.shape for name, value in graph.initializers.items()}}
        kernels = fuse.workloads(graph, shapes, groups.static)
        nodes = {node.name: node for node in graph.nodes}
        self._sources = [kernel.sources for kernel in kernels]
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
            dataclasses.replace(sided.at(widths, full), sources=sources)
            for sided, sources in zip(self.kernels, self._sources, strict=True)
        ]


def _count(ids: Ids | None, channels: int, groups: tuple[Group, ...]) -> Count:
    """How the channels of an activation divide over groups."""
    along = _along_channels(ids, channels)
    if along is None:
        return Count(channels)
    shares = {group.id: float(np.isin(along, group.units).sum()) / len(group) for group in groups}
    shares = {name: share for name, share in shares.items() if share}
    sizes = {group.id: len(group) for group in groups}
    return Count(channels - round(sum(share * sizes[name] for name, share in shares.items())), tuple(shares.items()))


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
