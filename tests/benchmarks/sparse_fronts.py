"""Channels alone, zeros alone, and both, on a phone's CPU that executes both.

``python -m tests.benchmarks.sparse_fronts --shared DIR --workdir DIR [--target ID]``

An inverted-residual network trained on CIFAR-10 (see `small_networks`), no training after pruning. Every row gets the same
latency budgets, repair and held-out images; ``mixed`` may choose between dense and sparse kernels for each budget, and
between widths and zeros for each layer. Latency is predicted; that of sparse kernels is not validated.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from search.allocate.knapsack import knapsack
from search.allocate.pareto import front
from search.allocate.price import Pricer
from search.allocate.problem import build_problem
from search.memo import digest
from search.space.options import Options, states_for
from search.space.plan import Plan, plan_key
from search.wire.request import StructureName
from tests.benchmarks.search_fronts import Bench, area, inputs, kept_rows

TARGET = "pixel4-1large-tflite-fp32"
ROWS: dict[str, tuple[StructureName, ...]] = {
    "channels": ("channel",),
    "unstructured": ("unstructured",),
    "mixed": ("channel", "unstructured"),
}
BUDGETS = 5
WITHIN = 0.01
"""One point of accuracy, about the standard error of the held-out images: what counts as no worse."""


def states(bench: Bench, pricer: Pricer, row: str) -> list[Options]:
    """The states of a row in which anything can be chosen."""
    return [
        state
        for state in states_for(bench.knobs, pricer.profile, ROWS[row])
        if any(len(options) > 1 for options in state.values())
    ]


def plans(bench: Bench, pricer: Pricer, row: str, budgets_s: Sequence[float]) -> list[Plan]:
    """The knapsack's answers of every state to every budget that it keeps."""
    found: dict[object, Plan] = {}
    for options in states(bench, pricer, row):
        problem = build_problem(pricer, options, bench.sensitivities)
        for plan in map(problem.plan, knapsack(problem, budgets_s)):
            found[plan_key(plan)] = plan
    return [plan for plan in found.values() if plan]


def points_of(
    bench: Bench, pricer: Pricer, row: str, budgets_s: Sequence[float], folder: Path
) -> list[tuple[float, float]]:
    """Share of dense latency and accuracy of every finished plan."""
    keep, dense = kept_rows(folder / "rows.json"), pricer.latency_s({})
    return [
        (
            pricer.latency_s(plan) / dense,
            keep(digest(plan), lambda plan=plan: bench.finisher.finish(bench.candidate("ours", plan)).quality.value),
        )
        for plan in plans(bench, pricer, row, budgets_s)
    ]


def dominated(mine: Sequence[tuple[float, float]], others: Sequence[tuple[float, float]]) -> int:
    """How many of the other points some point of mine equals or beats, accuracy within `WITHIN`."""
    return sum(any(c <= cost * 1.001 and a >= accuracy - WITHIN for c, a in mine) for cost, accuracy in others)


def main() -> None:
    """Print the three fronts, their areas, and how many points of the pure ones the mixed one dominates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--workdir", type=Path, default=Path("out/search_fronts"))
    parser.add_argument("--target", default=TARGET)
    arguments = parser.parse_args()
    model, data = inputs("mobilenet", arguments.shared, arguments.workdir)
    everything = ROWS["mixed"]
    bench = Bench.of(
        model.read_bytes(), data, arguments.workdir, 0, targets=(arguments.target,), structures=everything, rules=False
    )
    pricer, dense = bench.targets[arguments.target], bench.finisher.dense.quality.value
    least = min(
        pricer.latency_s(build_problem(pricer, options, bench.sensitivities).plan(choice))
        for options in states(bench, pricer, "mixed")
        for choice in [build_problem(pricer, options, bench.sensitivities).fastest()]
    )
    budgets_s = [float(b) for b in np.geomspace(0.95 * pricer.latency_s({}), 1.02 * least, BUDGETS)]
    folder = arguments.workdir / f"sparse-{arguments.target}"
    found = {row: points_of(bench, pricer, row, budgets_s, folder) for row in ROWS}
    print(f"{arguments.target}: dense {100 * dense:.1f} %, {1e3 * pricer.latency_s({}):.3f} ms predicted")
    for row, mine in found.items():
        kept = [mine[i] for i in front([cost for cost, _ in mine], [accuracy for _, accuracy in mine])]
        line = "; ".join(f"{1 / cost:.2f}x {100 * (accuracy - dense):+.1f}" for cost, accuracy in kept[::-1])
        beaten = f"mixed is no worse at {dominated(found['mixed'], kept)} of {len(kept)} points"
        print(f"{row:13} area {area(mine, dense):.3f}  {beaten}: {line}")


if __name__ == "__main__":
    main()
