"""From a network's kernels to tables of prices: which elements decide a kernel's channels, and which remove it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from hwprofiles.device import DeviceProfile
from hwprofiles.kernels import goes_by_groups, in_whole_groups
from hwprofiles.latency import workload_latency_s
from hwprofiles.workload import Workload
from search.allocate.lowered import Lowered, Sided, Widths, each_channel_alone, with_channels
from search.allocate.tables import Kernel, Part
from search.graph.ir import Array
from search.space.plan import Plan, plan_key, widths_of

Key = tuple[tuple[str, str], ...]
Shares = Mapping[str, float]
"""Node to what is left of its kernel's time."""


def tabulated(
    options: Mapping[str, Sequence[Plan]],
    full: Widths,
    dense: Lowered,
    variants: Mapping[Key, Lowered],
    shares: Mapping[Key, Shares],
    profile: DeviceProfile,
) -> list[Kernel]:
    """The kernels of a network and of every one of its blocks' variants, as functions of options.

    Args:
        options: element to its options.
        full: group to its number of units.
        dense: the dense network.
        variants: key of every plan that replaces a block, to the network with that block replaced.
        shares: key of every plan that has zeros, to what they leave.
        profile: the target.
    """
    factors: dict[Sided, dict[str, Array]] = {sided: {} for sided in dense.kernels}
    added: list[tuple[Sided, dict[str, Array]]] = []
    for element, plans in options.items():
        keys = [plan_key(plan) for plan in plans]
        _remove(factors, element, keys, variants)
        added += _add(set(dense.kernels), element, keys, variants)
        _thin_out(factors, element, keys, shares)
    channels = _Channels(options, full)
    return [channels.kernel(sided, by_element, profile) for sided, by_element in (*factors.items(), *added)]


def _remove(
    factors: Mapping[Sided, dict[str, Array]], element: str, keys: Sequence[Key], variants: Mapping[Key, Lowered]
) -> None:
    """Kernels of the dense network that are not in a variant are gone there."""
    for k, key in enumerate(keys):
        if key in variants:
            for sided in factors.keys() - set(variants[key].kernels):
                factors[sided].setdefault(element, np.ones(len(keys)))[k] = 0.0


def _add(
    dense: set[Sided], element: str, keys: Sequence[Key], variants: Mapping[Key, Lowered]
) -> list[tuple[Sided, dict[str, Array]]]:
    """Kernels of variants that are not in the dense network are there in these variants alone."""
    present: dict[Sided, Array] = {}
    for k, key in enumerate(keys):
        for sided in variants[key].kernels if key in variants else ():
            if sided not in dense:
                present.setdefault(sided, np.zeros(len(keys)))[k] = 1.0
    return [(sided, {element: factor}) for sided, factor in present.items()]


def _thin_out(
    factors: Mapping[Sided, dict[str, Array]], element: str, keys: Sequence[Key], shares: Mapping[Key, Shares]
) -> None:
    """Zeros leave a share of a kernel's time."""
    nodes = {node for key in keys for node in shares.get(key, {})}
    for sided in [sided for sided in factors if sided.kernel.name in nodes] if nodes else ():
        left = np.array([shares.get(key, {}).get(sided.kernel.name, 1.0) for key in keys])
        factors[sided][element] = factors[sided].get(element, 1.0) * left


class _Channels:
    """What every option gives to the channels of a kernel."""

    def __init__(self, options: Mapping[str, Sequence[Plan]], full: Widths) -> None:
        self.full = full
        self.widths: dict[str, tuple[str, Array]] = {}
        """Group to the element that decides it, and its width under each option."""
        for element, plans in options.items():
            for group in dict.fromkeys(group for plan in plans for group in widths_of(plan)):
                self.widths[group] = element, np.array([widths_of(plan).get(group, full[group]) for plan in plans])

    def kernel(self, sided: Sided, factors: Mapping[str, Array], profile: DeviceProfile) -> Kernel:
        """A kernel as a function of the elements that decide it."""
        fixed, channels = complex(sided.source.fixed, sided.sink.fixed), dict[str, Array]()
        for side, count in ((1, sided.source), (1j, sided.sink)):
            for group, share in count.per_unit:
                if group in self.widths:
                    element, widths = self.widths[group]
                    channels[element] = channels.get(element, 0) + side * share * widths
                else:
                    fixed += side * share * self.full[group]
        scope = dict.fromkeys((*channels, *factors))
        parts = {}
        for element in scope:
            size = len(channels[element] if element in channels else factors[element])
            parts[element] = Part(channels.get(element, np.zeros(size, complex)), factors.get(element, np.ones(size)))
        return Kernel(fixed, parts, functools.partial(_seconds, sided.kernel, profile))


def _seconds(kernel: Workload, profile: DeviceProfile, c_in: Array, c_out: Array) -> Array:
    """Seconds of a kernel at pairs of widths."""
    alone = each_channel_alone(kernel)
    if not alone:
        c_in, c_out = in_whole_groups(kernel, c_in, c_out)
    one_group = goes_by_groups(kernel) & (c_in == kernel.c_in // kernel.groups)
    special = one_group | (alone & (c_in != c_out))
    seconds = np.empty(len(c_in))
    for i in np.flatnonzero(special):  # no groups are left, or several outputs for each input: another kernel
        seconds[i] = float(workload_latency_s(with_channels(kernel, int(c_in[i]), int(c_out[i])), profile))
    seconds[~special] = workload_latency_s(kernel, profile, c_in=c_in[~special], c_out=c_out[~special])
    return seconds
