"""``secateur demo``: see it work."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cattrs
import click

from service.commands.options import as_json, out_dir
from service.console import print_fronts, print_json, stdout
from service.demo import Outcome, demonstrate


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
    referee = found.referee
    drop = referee["dense_accuracy"] - referee["pruned_accuracy"]
    stdout.print(
        f"best is {found.best.id}, judged by a script of ONNX Runtime alone on {referee['unseen']} scans of unseen digits:"
    )
    stdout.print(
        f"  speed-up  measured {referee['speedup']:.2f} x, predicted {found.best.predicted_speedup:.2f} x, "
        f"as reported {found.best.speedup:.2f} x"
    )
    stdout.print(
        f"  accuracy  {referee['pruned_accuracy']:.4f}, dense {referee['dense_accuracy']:.4f} "
        f"(drop {100 * drop:+.2f} points)"
    )
    stdout.print(f"saved: {out}/best.onnx, report.json, report.html, front.svg", markup=False)
