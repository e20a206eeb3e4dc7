"""Faults planted in a copy of the code, one at a time, against the tests that mirror it; what passes unnoticed is named.

The fourteen of `KNOWN` passed unnoticed once. `others` draws more from all modules: operators turned about.
"""

from __future__ import annotations

import ast
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[3]
TEST_S = 300
SWAPS: dict[type, type] = {
    ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A text of a file that stands for another."""

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]


_ACCURACY = ("tests/search/judge/test_accuracy.py", "tests/search/judge/test_intervals.py")
_POINTS = ("tests/search/results/test_points.py", "tests/search/results/test_choice.py")
_INTERVALS, _R2 = "search/judge/intervals.py", "search/judge/metrics/values.py"
_CHOICE, _POINTS_FILE = "search/results/choice.py", "search/results/points.py"
_STOPWATCH = "search/measure/stopwatch.py"
KNOWN = (
    Mutant(
        "accuracy: r2 interval a tenth",
        _R2,
        "return 1 - high, 1 - low",
        "return tuple(self.value(judged) + 0.1 * (1 - end - self.value(judged)) for end in (high, low))",
        _ACCURACY,
    ),
    Mutant(
        "accuracy: interval of the difference three times",
        _INTERVALS,
        "return float(low), float(high)",
        "return float(2 * low - high), float(2 * high - low)",
        _ACCURACY,
    ),
    Mutant(
        "accuracy: the pseudo-sample gone",
        _INTERVALS,
        "_drawn(self.lost + 0.5, self.won + 0.5,",
        "_drawn(self.lost, self.won,",
        _ACCURACY,
    ),
    Mutant(
        "accuracy: the sign of the r2 difference",
        _R2,
        "dense.scores - pruned.scores)",
        "pruned.scores - dense.scores)",
        _ACCURACY,
    ),
    Mutant(
        "points: best by the upper end",
        _CHOICE,
        "key=lambda p: (p.accuracy.value, -p",
        "key=lambda p: (p.accuracy.high, -p",
        _POINTS,
    ),
    Mutant(
        "points: compression ratio inverted",
        _POINTS_FILE,
        "len(dense.model) / len(file.model)",
        "len(file.model) / len(dense.model)",
        _POINTS,
    ),
    Mutant(
        "points: ratio of MACs doubled",
        _POINTS_FILE,
        "theoretical_speedup=macs[1]",
        "theoretical_speedup=2 * macs[1]",
        _POINTS,
    ),
    Mutant(
        "points: parity check off",
        _POINTS_FILE,
        "if not error <= self.proof.tolerance and",
        "if False and",
        _POINTS,
    ),
    Mutant(
        "points: the fastest of the front dropped",
        _POINTS_FILE,
        "for i in kept if i > 0]",
        "for i in kept[1:] if i > 0]",
        _POINTS,
    ),
    Mutant(
        "stopwatch: latency multiplied the wrong way",
        _STOPWATCH,
        'dense_s * row["ratio"]',
        'dense_s / row["ratio"]',
        ("tests/search/measure/test_stopwatch.py",),
    ),
    Mutant(
        "stopwatch: one round for forty",
        _STOPWATCH,
        "ROUNDS = 40",
        "ROUNDS = 1",
        ("tests/search/measure/test_stopwatch.py",),
    ),
    Mutant(
        "stopwatch: threads left out of the key",
        _STOPWATCH,
        '        "threads": profile.threads,\n',
        "",
        ("tests/search/measure/test_stopwatch.py",),
    ),
    Mutant(
        "data: training overlaps evaluation",
        "search/input/division.py",
        "order[last:]",
        "order[second:]",
        ("tests/search/input/test_division.py",),
    ),
    Mutant(
        "calibration: the quantile filter",
        "search/measure/calibrate/calibration.py",
        "latency_s = np.quantile(rounds, UNDISTURBED, axis=0)",
        "latency_s = np.max(rounds, axis=0)",
        ("tests/search/measure/test_calibrate.py",),
    ),
)


def run(mutants: Sequence[Mutant], *, python: str = sys.executable) -> Iterator[tuple[Mutant, bool]]:
    """Every mutant, and whether its tests fail."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        copy = Path(name)
        for part in ("search", "hwprofiles", "service", "tests", "pyproject.toml"):
            source = ROOT / part
            (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / part)  # type: ignore[operator]
        for mutant in mutants:
            path = copy / mutant.file
            whole = path.read_text(encoding="utf-8")
            if mutant.before not in whole:
                raise ValueError(f"{mutant.name}: {mutant.file} has no {mutant.before!r}")
            path.write_text(whole.replace(mutant.before, mutant.after, 1), encoding="utf-8")
            tests = [test for test in mutant.tests if (copy / test).exists()]
            command = [python, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
            try:
                code = subprocess.run(
                    command, check=False, cwd=copy, timeout=TEST_S, capture_output=True,
                    env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
                ).returncode  # fmt: skip
            except subprocess.TimeoutExpired:
                code = 1
            path.write_text(whole, encoding="utf-8")
            yield mutant, code == 1


def others(count: int, seed: int = 0) -> list[Mutant]:
    """Mutants of modules with a test of their own name, drawn at random."""
    rng = np.random.default_rng(seed)
    files = [path for package in ("search", "service", "hwprofiles") for path in sorted((ROOT / package).rglob("*.py"))]
    sites = [(path, tests, site) for path in files if (tests := _mirrors(path)) for site in _sites(path)]
    chosen = rng.choice(len(sites), min(count, len(sites)), replace=False)
    return [_planted(*sites[int(i)]) for i in sorted(chosen)]


def _mirrors(path: Path) -> tuple[str, ...]:
    package = path.relative_to(ROOT).parts[0]
    return tuple(
        str(test.relative_to(ROOT)) for test in sorted((ROOT / "tests" / package).rglob(f"test_{path.stem}.py"))
    )


def _sites(path: Path) -> list[tuple[int, int]]:
    """Line and kind of every operator that can be turned about."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [(node.lineno, i) for i, node in enumerate(ast.walk(tree)) if _turned(node) is not None]


def _turned(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        return ast.Compare(node.left, [SWAPS[type(node.ops[0])](), *node.ops[1:]], node.comparators)
    if isinstance(node, ast.BinOp) and type(node.op) in SWAPS:
        return ast.BinOp(node.left, SWAPS[type(node.op)](), node.right)
    if isinstance(node, ast.BoolOp):
        return ast.BoolOp(SWAPS[type(node.op)](), node.values)
    return None


def _planted(path: Path, tests: tuple[str, ...], site: tuple[int, int]) -> Mutant:
    text = path.read_text(encoding="utf-8")
    node = list(ast.walk(ast.parse(text)))[site[1]]
    turned = _turned(node)
    segment = ast.get_source_segment(text, node)
    if turned is None or segment is None:
        raise ValueError(f"{path}:{site[0]} cannot be turned about")
    name = str(path.relative_to(ROOT))
    start = text.splitlines(keepends=True)
    head = "".join(start[: node.lineno - 1]) + start[node.lineno - 1].encode()[: node.col_offset].decode()
    after = head + f"({ast.unparse(turned)})" + text[len(head) + len(segment) :]
    return Mutant(f"{name}:{site[0]}: {segment[:60]!r}", name, text, after, tests)
