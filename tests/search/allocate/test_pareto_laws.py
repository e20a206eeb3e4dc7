"""Laws of fronts, against brute force."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from search.allocate import pareto

Points = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=12)


def dominated(points: list[tuple[int, int]], i: int) -> bool:
    """Brute force over the definition: cheaper or equal and better or equal, and better in one."""
    cost, quality = points[i]
    return any(c <= cost and q >= quality and (c < cost or q > quality) for c, q in points)


@given(Points)
def test_front_is_exactly_the_undominated_points(points: list[tuple[int, int]]) -> None:
    """The front holds every undominated value once, by ascending cost."""
    kept = pareto.front([float(c) for c, _ in points], [float(q) for _, q in points])
    expected = sorted({point for i, point in enumerate(points) if not dominated(points, i)})
    assert [points[i] for i in kept] == expected


@given(Points)
def test_hypervolume_counts_unit_squares(points: list[tuple[int, int]]) -> None:
    """On integer points the area equals the number of dominated unit squares."""
    squares = {(x, y) for c, q in points for x in range(c, 10) for y in range(q)}
    area = pareto.hypervolume(
        [float(c) for c, _ in points], [float(q) for _, q in points], worst_cost=10, worst_quality=0
    )
    assert area == len(squares)


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=20, unique=True), st.integers(2, 8))
def test_thin_keeps_ends_and_size(costs: list[float], count: int) -> None:
    """Thinning keeps the first and the last point and at most the number asked for."""
    costs = sorted(costs)
    kept = pareto.thin(costs, count, [0.0] * len(costs))
    assert kept[0] == 0
    assert kept[-1] == len(costs) - 1
    assert len(kept) == min(count, len(costs))
    assert kept == sorted(set(kept))


@given(st.lists(st.floats(0.1, 100), min_size=5, max_size=20, unique=True), st.integers(3, 5), st.data())
def test_thin_keeps_what_it_is_told_to(costs: list[float], count: int, data: st.DataObject) -> None:
    """A position that must stay is among those kept, at the same size."""
    wanted = data.draw(st.integers(0, len(costs) - 1))
    kept = pareto.thin(sorted(costs), count, [0.0] * len(costs), {wanted})
    assert wanted in kept
    assert len(kept) == min(count, len(costs))


def test_thin_goes_by_roots() -> None:
    """Of 2.0 and 2.1 the first goes: from 1 to 2.1 the root of the logarithm changes by 0.285, from 2 to 4 by 0.344."""
    assert pareto.thin([1.0, 2.0, 2.1, 4.0, 8.0], 4, [0.0] * 5) == [0, 2, 3, 4]


@given(Points, st.data())
def test_most_area_drops_what_adds_least(points: list[tuple[int, int]], data: st.DataObject) -> None:
    """One point less: no other choice that holds the one to keep dominates a larger area. Sizes hold at any count."""
    kept = pareto.front([float(c) for c, _ in points], [float(q) for _, q in points])
    costs, qualities = [float(points[i][0]) for i in kept], [float(points[i][1]) for i in kept]
    wanted, count = data.draw(st.integers(0, len(kept) - 1)), data.draw(st.integers(1, 6))
    chosen = pareto.most_area(costs, qualities, count, {wanted})
    assert wanted in chosen
    assert len(chosen) == min(count, len(kept))
    assert chosen == sorted(set(chosen))

    def area(positions: list[int]) -> float:
        taken_costs, taken = [float(np.log(costs[i])) for i in positions], [qualities[i] for i in positions]
        worst_cost, worst = float(np.log(costs[-1])), 2 * qualities[0] - qualities[-1]
        return pareto.hypervolume(taken_costs, taken, worst_cost=worst_cost, worst_quality=worst)

    fewer = [[i for i in range(len(kept)) if i != gone] for gone in range(len(kept)) if gone != wanted]
    if fewer:
        dropped = pareto.most_area(costs, qualities, len(kept) - 1, {wanted})
        assert np.isclose(area(dropped), max(map(area, fewer)))
