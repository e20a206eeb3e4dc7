"""Fronts as SVG: accuracy against latency, the dense control marked, 95 % whiskers, the best point highlighted.

The same report gives the same bytes: ids are salted, no date is written, and text stays text.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from search.wire.report import Front, Point, Report

INK, MUTED, RULE = "#1d2a26", "#5a6b65", "#dfe5e1"
FRONT_COLOUR, BEST_COLOUR, DENSE_COLOUR = "#2b7a5b", "#b4530a", "#4a5a73"
PANEL_INCHES = (7.2, 4.0)
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    # A hostile name such as "$\\frac{" is a name, not mathematics.
    "text.parse_math": False,
    # Ticks are plain numbers, without a factor in the corner.
    "axes.formatter.useoffset": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}
_METRICS = {"top1": "Top-1 accuracy, %", "agreement": "Agreement with the dense model, %", "r2": "R², %"}


def latency_unit(front: Front) -> tuple[str, float]:
    """Unit in which the latencies of a front read best, and how many of it make a millisecond."""
    return ("\N{MICRO SIGN}s", 1000.0) if front.dense.latency_ms.value < 0.1 else ("ms", 1.0)


def front_svg(front: Front, *, title: str) -> str:
    """One front as an SVG document.

    Args:
        front: dense control and points of one target; zero points are allowed.
        title: drawn above the axes as plain text.
    """
    return _figure_svg([(title, front)])


def fronts_svg(report: Report) -> str:
    """All fronts of a report, one panel a target, as one SVG document (``out/front.svg``)."""
    return _figure_svg(list(report.fronts.items()))


def _figure_svg(panels: Sequence[tuple[str, Front]]) -> str:
    # The salt differs between figures so that several of them can stand in one HTML page without sharing ids.
    salt = "secateur " + " ".join(title for title, _ in panels)
    with mpl.rc_context({**_STYLE, "svg.hashsalt": salt}), warnings.catch_warnings():
        # Layout looks up glyphs in matplotlib's own font; the text itself is drawn by the viewer's fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        width, height = PANEL_INCHES
        figure = Figure(figsize=(width, height * max(1, len(panels))), layout="constrained")
        FigureCanvasSVG(figure)
        for row, (title, front) in enumerate(panels):
            _draw(figure.add_subplot(len(panels), 1, row + 1), front, title=_printable(title))
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    # Groups are never referred to; without their ids ("axes_1") two figures can share a page.
    return re.sub(r'<g id="[^"]*"', "<g", out.getvalue())


def _draw(axes: Axes, front: Front, *, title: str) -> None:
    unit, per_ms = latency_unit(front)
    axes.plot(
        [per_ms * point.latency_ms.value for point in front.points],
        [100 * point.accuracy.value for point in front.points],
        color=FRONT_COLOUR,
        linewidth=1.2,
        alpha=0.5,
        zorder=1,
    )
    for point in front.points:
        if point.id != front.best:
            _mark(axes, point, per_ms, colour=FRONT_COLOUR, marker="o", size=6)
    for point in front.points:
        if point.id == front.best:
            _mark(axes, point, per_ms, colour=BEST_COLOUR, marker="*", size=14, label=f"best: {_printable(point.id)}")
    _mark(axes, front.dense, per_ms, colour=DENSE_COLOUR, marker="D", size=7, hollow=True, label="dense (control)")
    axes.set_title(title, loc="left", fontweight="bold", fontsize=11)
    axes.set_xlabel(f"Latency, {unit} ({front.dense.latency_ms.kind})")
    metric = front.dense.accuracy.metric
    axes.set_ylabel(_METRICS.get(metric, f"{_printable(metric)}, %"))
    axes.grid(visible=True, color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0)
    axes.margins(0.08, 0.12)
    axes.legend(loc="lower right", frameon=False)


def _mark(
    axes: Axes,
    point: Point,
    per_ms: float,
    *,
    colour: str,
    marker: str,
    size: float,
    hollow: bool = False,
    label: str | None = None,
) -> None:
    accuracy = point.accuracy
    latency, low, high = (per_ms * ms for ms in (point.latency_ms.value, point.latency_ms.low, point.latency_ms.high))
    axes.errorbar(
        latency,
        100 * accuracy.value,
        xerr=[[max(0.0, latency - low)], [max(0.0, high - latency)]],
        yerr=[[max(0.0, 100 * (accuracy.value - accuracy.low))], [max(0.0, 100 * (accuracy.high - accuracy.value))]],
        fmt=marker,
        markersize=size,
        color=colour,
        markerfacecolor="white" if hollow else colour,
        markeredgewidth=1.6,
        elinewidth=0.8,
        capsize=2,
        label=label,
        zorder=3,
    )


def _printable(text: str) -> str:
    """The text without control characters, which XML 1.0 cannot hold, and cut to what fits above a figure."""
    clean = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return clean if len(clean) <= 80 else f"{clean[:79]}…"
