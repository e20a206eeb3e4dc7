"""Which kinds of removal a runtime turns into speed, and the widths at which channels get cheaper."""

from __future__ import annotations

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


def channel_options(units: int, profile: DeviceProfile, minimum: int | None = None) -> list[int]:
    """Widths worth trying for a layer of ``units`` channels, widest first.

    Args:
        units: channels the layer has.
        profile: the target; widths are multiples of its ``channel_grid``.
        minimum: narrowest width; the profile's ``minimum_channels``, else one grid step, when None.

    Returns:
        ``units`` itself and every multiple of the grid from ``minimum`` to below it. A layer no wider than a grid step
        has one option, its full width: nothing gets cheaper there.

    >>> from hwprofiles.registry import load_profile
    >>> channel_options(20, load_profile("host-cpu-onnxruntime"))
    [20, 16, 8]
    """
    grid = profile.channel_grid
    least = minimum or profile.minimum_channels or grid
    top = (units - 1) // grid * grid
    return [units, *(width for width in range(top, 0, -grid) if width >= least)]
