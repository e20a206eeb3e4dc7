"""Our search against the literature's rules: area under the accuracy/latency front, without any training.

``python -m tests.benchmarks.search_fronts --shared DIR --workdir DIR [--network NAME ...] [--seeds N]``

Every method gets the same latency budgets (all within the reach of widths alone), closed-form repair, files and held-out
images; they differ in which units go (criterion) and from where (allocation). ``ours`` also removes and replaces blocks;
``ours, channels`` does not. Area: the integral of (accuracy - chance) / (dense accuracy - chance) over latency saved, as a
share of dense latency. On the host latency is measured in ONNX Runtime, elsewhere predicted. What is done is kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from search.allocate import pareto
from search.allocate.base import Allocator, Problem
from search.allocate.erk import ErdosRenyiKernel, density
from search.allocate.global_threshold import GlobalThreshold
from search.allocate.knapsack import knapsack
from search.allocate.price import Pricer
from search.allocate.problem import Sensitivities, build_problem
from search.allocate.uniform import Uniform
from search.candidates.make import Maker
from search.candidates.sensitivity import sensitivities
from search.criteria import CRITERIA
from search.criteria.base import Evidence, filter_scores
from search.measure import profiles
from search.measure.stopwatch import stopwatch
from search.memo import Units, digest
from search.results import points
from search.space.options import Options, options_for, states_for
from search.space.plan import Candidate, Knobs, Plan, plan_key, widths_of
from search.wire.progress import Progress
from search.wire.request import Constraints, JobSpec, SearchOptions, StructureName
from tests.benchmarks.small_networks import BUILDERS, read, trained
from tests.search.prepared import prepared

TARGETS = ("host-cpu-onnxruntime", "pixel4-1large-tflite-fp32", "pixel4-gpu-tflite-fp32")
NETWORKS = ("resnet20", "resnet32", "mobilenet", "vit")
BUDGETS, EVALUATED, CHANCE = 5, 1500, 0.1
RULES = ("uniform-l1", "global-l1", "erk-l1", "global-taylor", "uniform-random")
METHODS = ("ours", "ours, channels", *RULES)


@dataclasses.dataclass(frozen=True)
class Bench:
    """One network, one seed: everything that the methods share."""

    knobs: Knobs
    maker: Maker
    evidence: Evidence
    finisher: points.Finisher
    sensitivities: Sensitivities
    targets: Mapping[str, Pricer]

    @classmethod
    def of(
        cls,
        model: bytes,
        data: Path,
        workdir: Path,
        seed: int,
        *,
        targets: Sequence[str] = TARGETS,
        structures: tuple[StructureName, ...] = ("channel", "depth"),
        rules: bool = True,
    ) -> Bench:
        """Calibrate, measure sensitivities, order units by every criterion used; without ``rules`` by ours only."""
        spec = JobSpec(tuple(targets), constraints=Constraints(structures=structures), search=SearchOptions(seed=seed))
        progress = Progress(None)
        splits, knobs, _ = prepared(spec, model, data, progress)
        pricers = {name: Pricer(knobs, profiles.resolve(name, workdir / "cache", progress)) for name in targets}
        units = Units(workdir / "units", digest(model, seed))
        maker = Maker(knobs, splits, spec, units, progress)
        every = [options for pricer in pricers.values() for options in states_for(knobs, pricer.profile, structures)]
        part = splits.calibration
        evidence = Evidence(knobs.graph, knobs.groups, maker.repairer.targets, part.feeds, part.labels, seed)
        for name in ("l1", "taylor", "random") if rules else ():
            maker.orders[name] = {g.id: CRITERIA[name](g, evidence) for g in knobs.groups.prunable}
        finisher = points.Finisher(knobs, splits.judged.take(slice(EVALUATED)), 0, units)
        return cls(knobs, maker, evidence, finisher, sensitivities(maker, every), pricers)

    def plans(self, method: str, pricer: Pricer, budgets_s: Sequence[float]) -> list[Plan]:
        """What a method answers to each budget."""
        structures: Any = ("channel", "depth") if method == "ours" else ("channel",)
        options = options_for(self.knobs, pricer.profile, structures)
        ours = method.startswith("ours")
        problem = build_problem(pricer, options, self.sensitivities) if ours else _unweighted(pricer, options)
        return [problem.plan(choice) for choice in self.allocator(method, pricer)(problem, budgets_s)]

    def allocator(self, method: str, pricer: Pricer) -> Allocator:
        """Where units go from."""
        groups, initializers = self.knobs.groups.prunable, self.knobs.graph.initializers
        rule = method.partition("-")[0]
        if rule == "erk":
            return ErdosRenyiKernel(pricer.full, {g.id: density(g, initializers) for g in groups})
        if method == "global-l1":
            return GlobalThreshold({g.id: filter_scores(g, self.evidence, 1) for g in groups})
        if method == "global-taylor":
            return GlobalThreshold({g.id: np.abs(self.evidence.gate_gradients[g.id]).mean(0) for g in groups})
        return Uniform(pricer.full) if rule == "uniform" else knapsack

    def candidate(self, method: str, plan: Plan) -> Candidate:
        """The plan's network, repaired; ours keeps the better of two criteria, judged on the search split."""
        criteria = ("obs", "l2") if method.startswith("ours") else (method.partition("-")[2],)
        if not widths_of(plan):
            criteria = criteria[:1]
        return min((self.maker._candidate(plan, name) for name in criteria), key=lambda c: c.divergence)


def _unweighted(pricer: Pricer, options: Options) -> Problem:
    """Options that save time, for rules that ask for no error."""
    tables = pricer.tables(options)
    kept = {e: np.flatnonzero((tables.alone(e) < 0) | (np.arange(len(plans)) == 0)) for e, plans in options.items()}
    chosen = {element: [plans[k] for k in kept[element]] for element, plans in options.items()}
    nothing = {element: np.zeros(len(positions)) for element, positions in kept.items()}
    return Problem(chosen, nothing, pricer.latency_s, tables.at(kept))


def budgets(bench: Bench, pricer: Pricer) -> list[float]:
    """From just below dense to the fastest that widths alone reach, so that every method can keep each of them."""
    options = options_for(bench.knobs, pricer.profile, ("channel",))
    dense, least = pricer.latency_s({}), pricer.latency_s(pricer.fastest(options))
    return [float(b) for b in np.geomspace(0.95 * dense, 1.001 * least, BUDGETS)]


def fronts(bench: Bench, folder: Path, keep: Callable[[str, Callable[[], Any]], Any]) -> dict[str, dict[str, Any]]:
    """Target to method to its points (share of dense latency, accuracy)."""
    found: dict[str, dict[str, Any]] = {}
    for name, pricer in bench.targets.items():
        rows: dict[str, list[tuple[Plan, Path, float]]] = {}
        for method in METHODS:
            plans = {plan_key(plan): plan for plan in bench.plans(method, pricer, budgets(bench, pricer)) if plan}
            rows[method] = [(plan, *_finished(bench, method, plan, folder, keep)) for plan in plans.values()]
        found[name] = {
            method: [(cost, accuracy) for cost, (_, _, accuracy) in zip(costs, rows[method], strict=True)]
            for method, costs in _costs(bench, name, pricer, rows, folder, keep).items()
        }
    return found


def _finished(
    bench: Bench, method: str, plan: Plan, folder: Path, keep: Callable[[str, Callable[[], Any]], Any]
) -> tuple[Path, float]:
    """File and accuracy of a plan; ours shares them between its two rows and the targets."""
    kind = "ours" if method.startswith("ours") else method.partition("-")[2]
    path = folder / f"{digest(plan, kind)[:16]}.onnx"

    def work() -> float:
        file = bench.finisher.finish(bench.candidate(method, plan))
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.model)
        return file.evaluation.value

    return path, keep(path.stem, work)


def _costs(
    bench: Bench,
    name: str,
    pricer: Pricer,
    rows: Mapping[str, Sequence[tuple[Plan, Path, float]]],
    folder: Path,
    keep: Callable[[str, Callable[[], Any]], Any],
) -> dict[str, list[float]]:
    """Latency of every point over dense: timed on the host, all files in turn; predicted elsewhere."""
    if not pricer.profile.measurable_here:
        dense = pricer.latency_s({})
        return {method: [pricer.latency_s(plan) / dense for plan, _, _ in mine] for method, mine in rows.items()}
    files = sorted({path for mine in rows.values() for _, path, _ in mine})

    def work() -> dict[str, float]:
        watch = stopwatch(pricer.profile, bench.finisher.judged, bench.finisher.graph.sampling, folder / "measurements")
        times = watch([bench.finisher.dense.model, *[path.read_bytes() for path in files]])
        return {path.stem: 1 / timed.speedup for path, timed in zip(files, times[1:], strict=True)}

    timed = keep(f"times-{name}-{digest([path.stem for path in files])[:12]}", work)
    return {method: [timed[path.stem] for _, path, _ in mine] for method, mine in rows.items()}


def area(mine: Sequence[tuple[float, float]], dense: float) -> float:
    """Hypervolume of a front against (dense latency, chance), 1 for full accuracy at no latency."""
    costs, accuracies = [1.0, *(c for c, _ in mine)], [dense, *(a for _, a in mine)]
    share = [(a - CHANCE) / (dense - CHANCE) for a in accuracies]
    return pareto.hypervolume(costs, share, worst_cost=1.0, worst_quality=0.0)


def kept_rows(path: Path) -> Callable[[str, Callable[[], Any]], Any]:
    """Results by key in one JSON file, so that a run goes on where the last one ended."""
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def keep(key: str, work: Callable[[], Any]) -> Any:
        if key not in known:
            known[key] = work()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(known))
        return known[key]

    return keep


def inputs(network: str, shared: Path, workdir: Path) -> tuple[Path, Path]:
    """A network's file, trained if need be, and the JPEG-shifted test images as a data set."""
    workdir.mkdir(parents=True, exist_ok=True)
    model = trained(network, shared, workdir) if network in BUILDERS else shared / f"models/{network}.onnx"
    data = workdir / "data.npz"
    if not data.exists():
        images, labels = read(shared / "data" / "cifar10_test_jpeg4k.npz")
        np.savez(data, x=images, y=labels)
    return model, data


def one(network: str, seed: int, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Areas of one network and seed: target to method to area; prints the points."""
    start, workdir = time.monotonic(), arguments.workdir
    model, data = inputs(network, arguments.shared, workdir)
    folder = workdir / f"{network}-{seed}"
    bench = Bench.of(model.read_bytes(), data, workdir, seed)
    dense = bench.finisher.dense.evaluation.value
    found = fronts(bench, folder, kept_rows(folder / "rows.json"))
    print(f"\n{network}, seed {seed}: dense {100 * dense:.1f} %, {time.monotonic() - start:.0f} s", flush=True)
    for target, methods in found.items():
        for method, mine in methods.items():
            row = "; ".join(f"{1 / cost:.2f}x {100 * (accuracy - dense):+.1f}" for cost, accuracy in sorted(mine)[::-1])
            print(f"  {target:26} {method:15} {area(mine, dense):.3f}  {row}", flush=True)
    return {
        target: {method: area(mine, dense) for method, mine in methods.items()} for target, methods in found.items()
    }


def main() -> None:
    """Print a table of areas, mean and sample standard deviation over seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--workdir", type=Path, default=Path("out/search_fronts"))
    parser.add_argument("--network", action="append", choices=NETWORKS)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    lines = []
    for network in arguments.network or NETWORKS:
        runs = [one(network, seed, arguments) for seed in range(arguments.seeds)]
        for target in TARGETS:
            cells = []
            for method in METHODS:
                areas = [run[target][method] for run in runs]
                spread = f" ± {np.std(areas, ddof=1):.3f}" if len(areas) > 1 else ""
                cells.append(f"{np.mean(areas):.3f}{spread}")
            lines.append(f"| {network} | {target} | {' | '.join(cells)} |")
    print("\n| network | target | " + " | ".join(METHODS) + " |\n|" + "---|" * (len(METHODS) + 2))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
