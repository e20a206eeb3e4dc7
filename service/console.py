"""What people see in a terminal: progress, tables, errors. With ``--json`` only the object, alone on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from search.wire.report import Front, Inspection, Point

stdout = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)


def print_json(body: Any) -> None:
    """`body` as JSON, alone on stdout."""
    json.dump(body, sys.stdout, indent=2)
    sys.stdout.write("\n")


class JobProgress:
    """A bar on stderr when it is a terminal; otherwise a line at each new stage."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description:<12}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
        self._bar = Progress(
            *columns, TimeElapsedColumn(), console=stderr, transient=True, disable=not stderr.is_terminal
        )
        self._task = self._bar.add_task("queued", total=1.0)
        self._stage = ""

    def show(self, stage: str, fraction: float) -> None:
        """Bring the display up to date."""
        if stage != self._stage and not stderr.is_terminal:
            stderr.print(f"{stage} ({fraction:.0%})")
        self._stage = stage
        self._bar.update(self._task, description=stage, completed=fraction)

    def warn(self, message: str) -> None:
        """A warning above the bar."""
        self._bar.console.print(f"[yellow]warning:[/] {escape(message)}")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


def print_fronts(fronts: Mapping[str, Front]) -> None:
    """A table a target."""
    for profile, front in fronts.items():
        metric = front.dense.accuracy.metric
        columns = ("point", f"{metric} (95 %)", "change", "latency ms", "speed-up", "parameters", "size kB")
        table = _table(f"{profile}", columns)
        for point in front.rows:
            best = point.id == front.best
            table.add_row(
                *_point_cells(f"{point.id} *" if best else point.id, point), style="bold green" if best else None
            )
        stdout.print(table)
        kind = "likeliest" if front.best_is == "likeliest" else "best"
        stdout.print(f"{kind}: {escape(front.best or 'none')} - {escape(front.best_reason)}")


def print_inspection(found: Inspection) -> None:
    """What can be pruned, what cannot and why, and what each target makes of it."""
    stdout.print(f"{found.parameters:,} parameters, {found.macs:,} MACs")
    if found.nodes is not None:
        kinds = found.nodes
        stdout.print(
            f"nodes: {kinds.understood} understood, {kinds.shapes} of shape arithmetic, {len(kinds.carried)} run by ONNX Runtime"
        )
        for node in kinds.carried:
            stdout.print(f"carried: {escape(node.node)} ({escape(node.operator)}) - {escape(node.reason)}")
    groups = _table("can be pruned", ("group", "kind", "units", "removable parameters", "nodes"))
    for group in found.groups:
        nodes = ", ".join(group.nodes)
        groups.add_row(group.id, group.kind, str(group.units), f"{group.removable_parameters:,}", escape(nodes))
    stdout.print(groups)
    for frozen in found.frozen:
        stdout.print(f"stays: {escape(frozen.node)} - {escape(frozen.reason)}")
    for profile, target in found.profiles.items():
        latency, reach = target.latency_ms, target.reachable_ms
        stdout.print(
            f"{profile}: {latency.value:.3f} ms {latency.kind} ({latency.low:.3f} to {latency.high:.3f}), "
            f"reachable {reach.min:.3f} to {reach.max:.3f} ms"
        )
        for note in target.notes:
            stdout.print(f"  {escape(note)}")
    for message in found.warnings:
        stderr.print(f"[yellow]warning:[/] {escape(message)}")


def print_rows(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A plain table."""
    table = _table(title, columns)
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    stdout.print(table)


def print_error(problem: Mapping[str, Any], as_json: bool) -> None:
    """A problem object: as JSON on stdout, or as a sentence on stderr."""
    if as_json:
        print_json(problem)
    else:
        detail = escape(str(problem.get("detail") or problem.get("title")))
        stderr.print(f"[red]error:[/] {detail} ({problem['type']})", soft_wrap=True)


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=escape(title), title_justify="left")
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 else "right", overflow="fold", no_wrap=i == 0)
    return table


def _point_cells(name: str, point: Point) -> tuple[str, ...]:
    accuracy, latency = point.accuracy, point.latency_ms
    return (
        escape(name),
        f"{accuracy.value:.4f} ({accuracy.low:.4f} to {accuracy.high:.4f})",
        f"{accuracy.delta:+.4f}",
        f"{latency.value:.4f} {latency.kind}",
        f"{point.speedup:.2f} x",
        f"{point.parameters:,}",
        f"{point.bytes / 1000:,.0f}",
    )
