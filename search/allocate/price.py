"""Price of a choice of widths: the dense network's kernels with other channel counts, through the profile's latency model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from hwprofiles.device import DeviceProfile
from hwprofiles.latency import network_latency_s, workload_latency_s
from hwprofiles.workload import Workload
from search.allocate.base import Widths
from search.graph import fuse
from search.graph.flow import Ids
from search.graph.ir import Array, Graph
from search.prune.groups import Group, Groups


@dataclasses.dataclass(frozen=True)
class _Count:
    """Channels of one side of a kernel: a fixed number plus so many per unit of every group."""

    fixed: int
    per_unit: Mapping[str, float]

    def at(self, widths: Widths, full: Widths) -> int:
        return round(self.fixed + sum(share * widths.get(group, full[group]) for group, share in self.per_unit.items()))


class Pricer:
    """Prices widths for one target."""

    def __init__(self, graph: Graph, groups: Groups, profile: DeviceProfile) -> None:
        """Lower the dense network once; all else is arithmetic on channel counts."""
        self.profile = profile
        self.kernels = fuse.workloads(graph, groups.shapes, groups.static)
        self.full: Widths = {group.id: len(group) for group in groups.prunable}
        nodes = {node.name: node for node in graph.nodes}
        self.sides: list[tuple[_Count, _Count]] = []
        for kernel in self.kernels:
            node = nodes[kernel.name]
            source = next((name for name in node.inputs if name in groups.value_ids), node.outputs[0])
            self.sides.append(
                (
                    _count(groups.value_ids.get(source), kernel.c_in, groups.prunable),
                    _count(groups.value_ids.get(node.outputs[0]), kernel.c_out, groups.prunable),
                )
            )
        self.touched = {
            group: [i for i, (a, b) in enumerate(self.sides) if group in a.per_unit or group in b.per_unit]
            for group in self.full
        }

    def workloads(self, widths: Widths) -> list[Workload]:
        """The network's kernels at these widths."""
        return [self._at(i, widths) for i in range(len(self.kernels))]

    def _at(self, i: int, widths: Widths) -> Workload:
        kernel, (source, sink) = self.kernels[i], self.sides[i]
        c_in, c_out = max(1, source.at(widths, self.full)), max(1, sink.at(widths, self.full))
        groups = c_in if kernel.kind == "conv" and kernel.groups == kernel.c_in > 1 else kernel.groups
        return dataclasses.replace(kernel, c_in=c_in, c_out=c_out, groups=groups)

    def latency_s(self, widths: Widths) -> float:
        """Predicted seconds of the whole network."""
        return float(network_latency_s(self.workloads(widths), self.profile))

    def change_s(self, group: str, options: list[int], widths: Widths) -> Array:
        """Seconds of every option of a group, the others as given, minus those of its current width."""
        total = np.zeros(len(options))
        now = 0.0
        for i in self.touched[group]:
            at = self._at(i, widths)
            source, sink = self.sides[i]
            c_in = np.array([max(1, source.at({**widths, group: k}, self.full)) for k in options])
            c_out = np.array([max(1, sink.at({**widths, group: k}, self.full)) for k in options])
            total += workload_latency_s(at, self.profile, c_in=c_in, c_out=c_out)
            now += float(workload_latency_s(at, self.profile))
        return total - now


def _count(ids: Ids | None, channels: int, groups: tuple[Group, ...]) -> _Count:
    """How the channels of an activation divide over groups."""
    along = _along_channels(ids, channels)
    if along is None:
        return _Count(channels, {})
    per_unit = {group.id: float(np.isin(along, group.units).sum()) / len(group) for group in groups}
    per_unit = {name: share for name, share in per_unit.items() if share}
    return _Count(channels - round(sum(share * _size(groups, name) for name, share in per_unit.items())), per_unit)


def _size(groups: tuple[Group, ...], name: str) -> int:
    return next(len(group) for group in groups if group.id == name)


def _along_channels(ids: Ids | None, channels: int) -> Ids | None:
    """Ids along the axis that holds the kernel's channels: axis 1 of images, the last axis otherwise."""
    if ids is None or ids.ndim < 2 or not ids.size:
        return None
    axis = 1 if ids.ndim == 4 else ids.ndim - 1
    moved = np.moveaxis(ids, axis, 0).reshape(ids.shape[axis], -1)[:, 0]
    return moved if len(moved) == channels else None
