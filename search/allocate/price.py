"""Price of a plan: the network's kernels with other channel counts, through the profile's latency model."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np

from hwprofiles.device import DeviceProfile
from hwprofiles.latency import network_latency_s, workload_latency_s
from hwprofiles.workload import Workload
from search.graph import fuse
from search.graph.flow import Ids
from search.graph.ir import Array, Graph
from search.plan import Knobs, Plan, blocks_of, plan_key, widths_of, zeros_of
from search.prune.groups import Group, Groups
from search.structures.cluster import time_factor

Widths = Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class _Count:
    """Channels of one side of a kernel: a fixed number plus so many per unit of every group."""

    fixed: int
    per_unit: Mapping[str, float]

    def at(self, widths: Mapping[str, Array | int], full: Widths) -> Array:
        """Channel counts; the widths may be arrays, which broadcast."""
        total = self.fixed + sum(share * np.asarray(widths.get(g, full[g])) for g, share in self.per_unit.items())
        return np.maximum(1, np.rint(total)).astype(int)


class Pricer:
    """Prices plans for one target."""

    def __init__(self, knobs: Knobs, profile: DeviceProfile) -> None:
        """Lower the dense network once; every set of replaced blocks is lowered when it is first asked for."""
        self.knobs, self.profile = knobs, profile
        self.full: Widths = {group.id: len(group) for group in knobs.groups.prunable}
        self._lowered: dict[tuple[tuple[str, str], ...], _Lowered] = {}
        self._known: dict[tuple[tuple[str, str], ...], float] = {}
        self._counts: dict[tuple[str, int], _Count] = {}

    def lowered(self, plan: Plan) -> _Lowered:
        """The kernels of a plan's blocks, at any width."""
        settings = blocks_of(plan)
        key = plan_key(settings)
        if key not in self._lowered:
            self._lowered[key] = _Lowered(self.knobs.network(settings), self.knobs.groups, self.full, self._counts)
        return self._lowered[key]

    def workloads(self, plan: Plan) -> list[Workload]:
        """The network's kernels under a plan."""
        return self.lowered(plan).workloads(widths_of(plan))

    def latency_s(self, plan: Plan) -> float:
        """Predicted seconds of the whole network."""
        key = plan_key(plan)
        if key not in self._known:
            dense_s = float(network_latency_s(self.workloads(plan), self.profile))
            self._known[key] = dense_s - self._saved_s(plan, zeros_of(plan))
        return self._known[key]

    def _saved_s(self, plan: Plan, zeros: Mapping[str, float]) -> float:
        """What zeros save at a plan's widths, kernel by kernel."""
        lowered, widths = self.lowered(plan), widths_of(plan)
        return sum(
            lowered.kernel_s(node, widths, self.profile) * (1 - float(time_factor(share, self.profile)))
            for node, share in zeros.items()
        )

    def fastest(self, options: Mapping[str, Sequence[Plan]]) -> Plan:
        """The option of every element that saves most by itself; the dense network where that is no faster."""
        chosen = [of_element[int(self.change_s(of_element, {}).argmin())] for of_element in options.values()]
        plan = {knob: setting for option in chosen for knob, setting in option.items()}
        return plan if self.latency_s(plan) < self.latency_s({}) else {}

    def neighbours(self, options: Mapping[str, Sequence[Plan]]) -> dict[str, frozenset[str]]:
        """Element to the elements that share a kernel with it, which is then priced by both widths together."""
        knobs = {element: {knob for plan in plans for knob in plan} for element, plans in options.items()}
        blocks = {block.id: block.nodes for block in self.knobs.blocks}
        lowered = self.lowered({})
        kernels: dict[str, set[str]] = {}
        for element, mine in knobs.items():
            widths = {lowered.kernels[i].name for knob in mine for i in lowered.touched.get(knob, ())}
            whole = {node for knob in mine for node in blocks.get(knob, ())}
            zeros = {node for plan in options[element] for node in zeros_of(plan)}
            kernels[element] = widths | whole | zeros | {knob for knob in mine if isinstance(knob, str)}
        return {
            element: frozenset(other for other in kernels if other != element and kernels[other] & kernels[element])
            for element in kernels
        }

    def change_s(self, options: Sequence[Plan], plan: Plan) -> Array:
        """Seconds of the network with each option put into a plan, minus those of the plan.

        Options that leave the blocks alone are priced together, kernel by kernel; layout reorders are then those of the
        first of them. Zeros are an element's only setting or none of it.
        """
        if any(zeros_of(option) for option in options):
            return self._change_of_zeros_s(options, plan)
        seconds = np.zeros(len(options))
        alike: dict[tuple[tuple[str, str], ...], list[int]] = {}
        for i, option in enumerate(options):
            alike.setdefault(plan_key(blocks_of(option)), []).append(i)
        varying = dict.fromkeys(knob for option in options for knob in widths_of(option))
        for members in alike.values():
            first = {**plan, **options[members[0]]}
            varied = {k: np.array([widths_of(options[i]).get(k, self.full[k]) for i in members]) for k in varying}
            factors = {node: float(time_factor(share, self.profile)) for node, share in zeros_of(plan).items()}
            change = self.lowered(first).change_s(widths_of(first), varied, self.profile, factors)
            seconds[members] = self.latency_s(first) + change - change[0]
        return seconds - self.latency_s(plan)

    def _change_of_zeros_s(self, options: Sequence[Plan], plan: Plan) -> Array:
        nodes = {node for option in options for node in zeros_of(option)}
        now = {node: share for node, share in zeros_of(plan).items() if node in nodes}
        saved = np.array([self._saved_s(plan, {**now, **zeros_of(option)}) for option in options])
        return self._saved_s(plan, now) - saved


class _Lowered:
    """Kernels of one network, their channel counts as functions of the dense network's groups."""

    def __init__(self, graph: Graph, groups: Groups, full: Widths, counts: dict[tuple[str, int], _Count]) -> None:
        """``counts`` remembers how a value's channels divide, which is the same in every variant."""
        self.full = full

        def count(value: str, channels: int) -> _Count:
            if (value, channels) not in counts:
                counts[value, channels] = _count(groups.value_ids.get(value), channels, groups.prunable)
            return counts[value, channels]

        shapes = {**groups.shapes, **{name: value.shape for name, value in graph.initializers.items()}}
        self.kernels = fuse.workloads(graph, shapes, groups.static)
        nodes = {node.name: node for node in graph.nodes}
        self.sides: list[tuple[_Count, _Count]] = []
        for kernel in self.kernels:
            node = nodes[kernel.name]
            source = next((name for name in node.inputs if name in groups.value_ids), node.outputs[0])
            self.sides.append((count(source, kernel.c_in), count(node.outputs[0], kernel.c_out)))

    def workloads(self, widths: Widths) -> list[Workload]:
        """The kernels at these widths."""
        return [self._at(i, widths) for i in range(len(self.kernels))]

    def kernel_s(self, name: str, widths: Widths, profile: DeviceProfile) -> float:
        """Seconds of one kernel; 0 where it is gone with its block."""
        i = next((i for i, kernel in enumerate(self.kernels) if kernel.name == name), None)
        return 0.0 if i is None else float(workload_latency_s(self._at(i, widths), profile))

    def _at(self, i: int, widths: Widths) -> Workload:
        kernel, (source, sink) = self.kernels[i], self.sides[i]
        c_in, c_out = int(source.at(widths, self.full)), int(sink.at(widths, self.full))
        groups = c_in if kernel.kind == "conv" and kernel.groups == kernel.c_in > 1 else kernel.groups
        return dataclasses.replace(kernel, c_in=c_in, c_out=c_out, groups=groups)

    def change_s(
        self, widths: Widths, varied: Mapping[str, Array], profile: DeviceProfile, factors: Mapping[str, float]
    ) -> Array:
        """Seconds of the kernels that the varied groups touch, for every one of the varied widths.

        ``factors`` are what zeros make of a kernel's time, by name.
        """
        total = np.zeros(len(next(iter(varied.values()))) if varied else 1)
        touched = {i for group in varied for i in self.touched.get(group, ())}
        for i in sorted(touched):
            source, sink = self.sides[i]
            c_in = source.at({**widths, **varied}, self.full)
            c_out = sink.at({**widths, **varied}, self.full)
            seconds = workload_latency_s(self._at(i, widths), profile, c_in=c_in, c_out=c_out)
            total += seconds * factors.get(self.kernels[i].name, 1.0)
        return total

    @functools.cached_property
    def touched(self) -> dict[str, list[int]]:
        """Group to the kernels whose channels it counts among."""
        found: dict[str, list[int]] = {}
        for i, sides in enumerate(self.sides):
            for group in {group for side in sides for group in side.per_unit}:
                found.setdefault(group, []).append(i)
        return found


def _count(ids: Ids | None, channels: int, groups: tuple[Group, ...]) -> _Count:
    """How the channels of an activation divide over groups."""
    along = _along_channels(ids, channels)
    if along is None:
        return _Count(channels, {})
    per_unit = {group.id: float(np.isin(along, group.units).sum()) / len(group) for group in groups}
    per_unit = {name: share for name, share in per_unit.items() if share}
    sizes = {group.id: len(group) for group in groups}
    return _Count(channels - round(sum(share * sizes[name] for name, share in per_unit.items())), per_unit)


def _along_channels(ids: Ids | None, channels: int) -> Ids | None:
    """Ids along the axis that holds the kernel's channels: axis 1 of images, the last axis otherwise."""
    if ids is None or ids.ndim < 2 or not ids.size:
        return None
    axis = 1 if ids.ndim == 4 else ids.ndim - 1
    moved = np.moveaxis(ids, axis, 0).reshape(ids.shape[axis], -1)[:, 0]
    return moved if len(moved) == channels else None
