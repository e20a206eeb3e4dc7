"""``secateur demo``: see it work."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import cattrs
import click

from search.wire.report import Point
from service.commands.options import as_json, out_dir
from service.console import print_fronts, print_json, stdout
from service.demo import Outcome, demonstrate

Z95 = 1.96


@click.command()
@out_dir
@as_json
def demo(out: Path | None, as_json: bool) -> None:
    """Train a small network on handwritten digits, prune it through the real service, and compare."""
    out = out or Path("out") / "demo"
    found = demonstrate(out)
    if as_json:
        print_json(cattrs.unstructure(dataclasses.asdict(found)))
    else:
        _print(found, out)


def _print(found: Outcome, out: Path) -> None:
    print_fronts({found.best.profile: found.front})
    for line in told(found.best, found.referee):
        stdout.print(line, markup=False)
    stdout.print(f"saved: {out}/best.onnx, report.json, report.html, front.svg", markup=False)


def told(best: Point, referee: Mapping[str, float]) -> list[str]:
    """What a judge of its own says of the best point, beside what the report says: one speed-up, one change, and their noise.

    Changes are pruned minus dense, so that a loss is negative; both carry 95 % intervals.
    """
    said, judged = best.accuracy, referee["pruned_accuracy"] - referee["dense_accuracy"]
    half = Z95 * referee["change_error"]
    apart, noise = abs(judged - said.delta), math.hypot(half, (said.delta_high - said.delta_low) / 2)
    verdict = "as chance alone makes them differ" if apart <= noise else "more than chance alone makes them differ"
    judge = f"A judge of its own, ONNX Runtime alone on {referee['unseen']:.0f} scans of digits that no job saw, finds:"
    report_s = f"the report: {best.speedup:.2f}, between {best.speedup_low:.2f} and {best.speedup_high:.2f}"
    change = f"{100 * judged:+.2f} points of change, give or take {100 * half:.2f}"
    interval = f"between {100 * said.delta_low:+.2f} and {100 * said.delta_high:+.2f}, from {said.n} other scans"
    return [
        f"best is {best.id}. {judge}",
        f"  speed     {referee['speedup']:.2f} times as fast as dense ({report_s})",
        f"  accuracy  {change} (the report: {100 * said.delta:+.2f}, {interval})",
        f"  The two changes are {100 * apart:.2f} points apart, {verdict} ({100 * noise:.2f}).",
    ]
