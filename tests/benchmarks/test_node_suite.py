"""A sample of the node suite; the whole of it is `python -m tests.benchmarks.node_suite`."""

from __future__ import annotations

import warnings

from tests.benchmarks import node_suite


def test_nothing_is_wrong_and_nothing_crashes() -> None:
    """Every fifteenth case passes or is refused with a typed error that names the operator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's overflows in casts that the suite asks for
        results = list(node_suite.run(stride=15))
    bad = [result for result in results if result.outcome not in ("traced", "constant", "refused")]
    assert not bad, bad
    assert sum(result.outcome != "refused" for result in results) > 0.85 * len(results)
