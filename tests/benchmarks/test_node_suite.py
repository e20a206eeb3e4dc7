"""A sample of the node suite; the whole of it is `python -m tests.benchmarks.node_suite`."""

from __future__ import annotations

import warnings

from tests.benchmarks import node_suite


def test_nothing_is_wrong_and_nothing_that_runs_is_refused() -> None:
    """Of every thirtieth case, whatever ONNX Runtime runs is accepted, and all outputs are those of the suite."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's overflows in casts that the suite asks for
        results = list(node_suite.run(stride=30))
    bad = [result for result in results if result.outcome in ("wrong", "crash", "refused")]
    assert not bad, bad
    assert sum(result.outcome in ("understood", "carried") for result in results) > 0.85 * len(results)
