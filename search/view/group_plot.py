"""The groups of a network as SVG: one column a group, in the order of the graph, its width above, its parameters below.

Drawn by hand, since it is a row of rectangles: small, the same bytes for the same report, and readable without a mouse,
every column with its figures in a ``<title>``.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from search.wire.report import FrozenGroup, PrunableGroup

INK, MUTED, RULE = "#1d2a26", "#5a6b65", "#dfe5e1"
WIDTH_COLOUR, PARAMETERS_COLOUR, FROZEN_COLOUR = "#2b7a5b", "#4a5a73", "#b4530a"
LEFT, TOP, BAR, GAP, PANEL, FOOT = 70, 26, 18, 6, 90, 40
"""Pixels: left margin, top margin, width of a column, between columns, height of a panel, below the last one."""


def groups_svg(groups: Sequence[PrunableGroup], frozen: Sequence[FrozenGroup]) -> str:
    """The picture as an ``<svg>`` element; frozen nodes stand behind the groups, hatched, with their reason."""
    columns = len(groups) + len(frozen)
    width, height = LEFT + max(columns, 12) * (BAR + GAP) + GAP, TOP + 2 * PANEL + 2 * FOOT
    label = f"{len(groups)} groups that can be pruned, in the order of the network, and {len(frozen)} frozen nodes"
    hatch = '<pattern id="frozen" width="5" height="5" patternTransform="rotate(45)" patternUnits="userSpaceOnUse">'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{label}" ',
        f'style="width: {width}px; max-width: none" font-family="sans-serif" font-size="11" fill="{MUTED}">',
        f'<defs>{hatch}<rect width="2" height="5" fill="{FROZEN_COLOUR}"/></pattern></defs>',
        *_panel("Width, channels", TOP, [g.units for g in groups], WIDTH_COLOUR, groups),
        *_panel(
            "Parameters that can go",
            TOP + PANEL + FOOT,
            [g.removable_parameters for g in groups],
            PARAMETERS_COLOUR,
            groups,
        ),
        *(_frozen(group, len(groups) + i) for i, group in enumerate(frozen)),
        f'<text x="{LEFT}" y="{height - 8}">from the input to the output{"; hatched: frozen" if frozen else ""}</text>',
        "</svg>",
    ]
    return "".join(parts)


def _panel(title: str, top: int, values: Sequence[int], colour: str, groups: Sequence[PrunableGroup]) -> list[str]:
    """Columns over a base line, the largest value at the top of the scale."""
    largest, base = max(values, default=1), top + PANEL
    parts = [
        f'<text x="{LEFT}" y="{top - 10}" font-weight="bold" fill="{INK}">{title}</text>',
        f'<text x="{LEFT - 8}" y="{top + 8}" text-anchor="end">{largest:,}</text>',
        f'<text x="{LEFT - 8}" y="{base}" text-anchor="end">0</text>',
        f'<line x1="{LEFT}" x2="{_left(len(groups))}" y1="{base}" y2="{base}" stroke="{RULE}"/>',
    ]
    for i, (value, group) in enumerate(zip(values, groups, strict=True)):
        height = max(1.0, PANEL * value / largest)
        parts.append(
            f'<rect x="{_left(i)}" y="{base - height:.1f}" width="{BAR}" height="{height:.1f}" rx="2" fill="{colour}">'
            f"<title>{_text(group.id)}: {group.units} channels, {group.removable_parameters:,} parameters can go, "
            f"{len(group.nodes)} nodes</title></rect>"
        )
    return parts


def _frozen(group: FrozenGroup, column: int) -> str:
    return (
        f'<rect x="{_left(column)}" y="{TOP}" width="{BAR}" height="{PANEL}" rx="2" fill="url(#frozen)" '
        f'stroke="{FROZEN_COLOUR}"><title>{_text(group.node)}: frozen, {_text(group.reason)}</title></rect>'
    )


def _left(column: int) -> int:
    return LEFT + GAP + column * (BAR + GAP)


def _text(name: str) -> str:
    """Escaped, without characters that XML cannot hold."""
    return escape("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name))
