"""Which kinds of removal a runtime turns into speed, and the widths at which channels get cheaper."""

from __future__ import annotations

import math

from hwprofiles.device import DeviceProfile, SparsityRule, Structure

_ALWAYS = {
    "channel": "a narrower layer is a smaller dense kernel",
    "depth": "a removed block is not executed at all",
}


def sparsity_rule(structure: Structure, profile: DeviceProfile) -> SparsityRule:
    """What ``profile`` says of ``structure``; channels and depth pay everywhere unless the profile says otherwise."""
    for rule in profile.sparsity:
        if rule.structure == structure:
            return rule
    if structure in _ALWAYS:
        return SparsityRule(structure, executed=True, reason=_ALWAYS[structure], source="follows from dense execution")
    reason = f"nothing is known of {structure} sparsity in {profile.runtime}, so none is used"
    return SparsityRule(structure, executed=False, reason=reason, source="none")


def executed_structures(profile: DeviceProfile) -> tuple[Structure, ...]:
    """The kinds of removal worth searching for this target."""
    every: tuple[Structure, ...] = ("channel", "depth", "block", "nm", "unstructured")
    return tuple(structure for structure in every if sparsity_rule(structure, profile).executed)


def channel_options(
    units: int, profile: DeviceProfile, minimum: int | None = None, *, channels_per_unit: int = 1
) -> list[int]:
    """Widths worth trying for a layer of ``units`` channels, widest first.

    Args:
        units: channels the layer has, or what of it goes as a whole: heads, groups of a convolution.
        profile: the target; widths in channels are multiples of its ``channel_grid``.
        minimum: narrowest width in channels; the profile's ``minimum_channels``, else one grid step, when None.
        channels_per_unit: channels of a unit.

    Returns:
        ``units`` itself and every number of whole units on the grid from ``minimum`` to below it. A layer no wider than a grid
        step has one option, its full width: nothing gets cheaper there.

    >>> from hwprofiles.registry import load_profile
    >>> channel_options(20, load_profile("host-cpu-onnxruntime"))
    [20, 16, 8]
    >>> channel_options(7, load_profile("host-cpu-onnxruntime"), channels_per_unit=4)
    [7, 6, 4, 2]
    """
    step = profile.channel_grid // math.gcd(profile.channel_grid, channels_per_unit)
    least = minimum or profile.minimum_channels or profile.channel_grid
    top = (units - 1) // step * step
    return [units, *(width for width in range(top, 0, -step) if width * channels_per_unit >= least)]
