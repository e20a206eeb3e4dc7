"""A report as one HTML file that needs nothing else: inline style and SVG, no scripts, every name escaped."""

from __future__ import annotations

import math

import jinja2
from markupsafe import Markup

from search.view.group_plot import groups_svg
from search.view.plots import front_svg, latency_unit
from search.wire.report import Accuracy, Front, Judge, Latency, Point, Report

_REGIMES = {
    "labelled": "Accuracy is the share of correct top answers (R² for float targets) on labelled samples.",
    "unlabelled": "There are no labels: quality is how closely each pruned model follows the dense model.",
    "data-free": "No data was given: inputs are synthetic; quality is only how closely the dense model is followed.",
}
_JUDGES: dict[Judge, str] = {
    "top1": "is judged by correct answers",
    "agreement": "is judged by the answers it shares with the dense model",
    "r2": "is judged by R²",
    "search": "ranks candidates and is not part of the accuracy",
    "nothing": "says nothing of the weights",
}


def render(report: Report) -> str:
    """The report as a self-contained HTML page.

    Args:
        report: what a job found; any of its names may be hostile, all are escaped.
    """
    figures = {profile: Markup(_inline(front_svg(front, title=profile))) for profile, front in report.fronts.items()}  # noqa: S704 - matplotlib escapes the text in it
    return (
        _environment()
        .get_template("report.html")
        .render(
            report=report,
            figures=figures,
            groups_figure=Markup(groups_svg(report.groups, report.frozen)),  # noqa: S704 - it escapes the names in it
            regime=_REGIMES[report.data.regime],
            judges=_JUDGES,
            best_points=_best_points(report),
        )
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("search", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "percent": _percent,
        "points": _points,
        "accuracy_interval": _accuracy_interval,
        "delta_interval": _delta_interval,
        "latency_interval": _latency_interval,
        "latency_unit": latency_unit,
        "sentence_end": _sentence_end,
        "latency": _latency,
        "times": _times,
        "count": _count,
        "filesize": _filesize,
    }
    return environment


def _inline(svg: str) -> str:
    """The ``<svg>`` element without the XML prologue, which HTML does not allow."""
    return svg[svg.index("<svg") :]


def _best_points(report: Report) -> dict[str, Point | None]:
    return {profile: _best(front) for profile, front in report.fronts.items()}


def _best(front: Front) -> Point | None:
    return next((point for point in front.points if point.id == front.best), None)


def _percent(fraction: float) -> str:
    """0.9215 -> ``92.15 %``."""
    return f"{100 * fraction:.2f} %"


def _points(fraction: float) -> str:
    """-0.0042 -> ``-0.42`` (with a true minus sign): percentage points."""
    text = f"{100 * fraction:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def _accuracy_interval(accuracy: Accuracy) -> str:
    return f"{100 * accuracy.low:.2f} to {100 * accuracy.high:.2f}"


def _delta_interval(accuracy: Accuracy) -> str:
    return f"{_points(accuracy.delta_low)} to {_points(accuracy.delta_high)}"


def _latency(value: float) -> str:
    """Three significant digits, never an exponent: 0.01234 -> ``0.0123``, 12.345 -> ``12.3``, 1234.6 -> ``1235``."""
    if value == 0:
        return "0"
    decimals = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{min(max(decimals, 0), 9)}f}"


def _latency_interval(latency: Latency, per_ms: float) -> str:
    return f"{_latency(per_ms * latency.low)} to {_latency(per_ms * latency.high)}"


def _sentence_end(reason: str) -> str:
    """The reason with exactly one full stop, as it ends a sentence here."""
    return f"{reason.rstrip('. ')}."


def _times(ratio: float) -> str:
    """1.5 -> ``1.50`` and a multiplication sign."""
    return f"{ratio:.2f}\N{MULTIPLICATION SIGN}"


def _count(number: int) -> str:
    """41234567 -> ``41.23 M``."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return str(number)


def _filesize(size: int) -> str:
    """1090000 -> ``1.09 MB``: decimal units, as file managers and runtimes print them."""
    return f"{_count(size)}B" if size >= 1000 else f"{size} B"
