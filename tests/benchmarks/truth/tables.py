"""The sixty jobs in figures: how far `best` is flattered, what intervals cover, whether limits are kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tests.benchmarks.truth.jobs import OBJECTIVES

Row = dict[str, Any]


def summary(rows: Sequence[Row]) -> list[str]:
    """Lines of a table, markdown."""
    done = [row for row in rows if "failed" not in row]
    named = [(row, _best(row)) for row in done if row["best"] is not None]
    flattered = 100 * np.array([best["said"]["delta"] - best["true_delta"] for _, best in named])
    points = [point for row in done for point in row["points"]]
    lines = [
        f"| jobs that ended well | {len(done)} of {len(rows)} |",
        f"| best reported better than it is, points | {flattered.mean():+.2f}, standard error {_error(flattered):.2f} |",
        f"| ... with at least 1,000 samples | {_mean_of(named, at_least=1000)} |",
        f"| 95 % interval of the change of best covers the truth | {_share(_covers(best, 'delta') for _, best in named)} |",
        f"| 95 % interval of the change of any point | {_share(_covers(point, 'delta') for point in points)} |",
        f"| 95 % interval of the accuracy of any point | {_share(_covers(point, 'value') for point in points)} |",
    ]
    for confidence in (0.5, 0.8, 0.95):
        lines.append(f"| limits said to be kept at {confidence:g} that are | {_kept(named, confidence)} |")
    limited = [row for row in done if "max_accuracy_drop" in _objective(row)]
    with_1000 = [row for row in limited if row["job"]["samples"] >= 1000]
    lines.append(
        f"| a best is named, 1,000 samples and more | {_share(row['best'] is not None for row in with_1000)} |"
    )
    return lines


def _objective(row: Row) -> dict[str, float]:
    return OBJECTIVES[row["job"]["objective"]][0]


def _best(row: Row) -> Row:
    return next(point for point in row["points"] if point["id"] == row["best"])


def _error(values: Any) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def _mean_of(named: Sequence[tuple[Row, Row]], at_least: int) -> str:
    found = [100 * (b["said"]["delta"] - b["true_delta"]) for row, b in named if row["job"]["samples"] >= at_least]
    return f"{np.mean(found):+.2f}, standard error {_error(found):.2f}"


def _covers(point: Row, what: str) -> bool:
    said = point["said"]
    low, high, true = (
        (said["delta_low"], said["delta_high"], point["true_delta"])
        if what == "delta"
        else (said["low"], said["high"], point["true"])
    )
    return bool(low <= true <= high)


def _share(found: Iterable[bool]) -> str:
    held = list(found)
    return f"{100 * np.mean(held):.1f} % of {len(held)}" if held else "none"


def _kept(named: Sequence[tuple[Row, Row]], confidence: float) -> str:
    """Of the limits that are said to be kept; a report of before says so of every best."""
    held = [
        best["true_delta"] >= -_objective(row)["max_accuracy_drop"]
        for row, best in named
        if "max_accuracy_drop" in _objective(row)
        and OBJECTIVES[row["job"]["objective"]][1] == confidence
        and row["best_is"] in {None, "kept"}
    ]
    if not held:
        return "none is said to be"
    bar = confidence - 2 * np.sqrt(confidence * (1 - confidence) / len(held))
    return f"{sum(held)} of {len(held)} (bar {bar:.2f}, found {np.mean(held):.2f})"
