"""Thousands of random files, patched: ``python -m tests.benchmarks.patch_laws [--examples 5000] [--seed 0]``.

Random networks as exporters write them (`tests/search/graph/habits.py`), cut at random and with new numbers for some weights. Of
every one: without rewrites the upload comes back byte for byte; the fields in which the written file differs are those that the
recorded edits name, and no other; ONNX Runtime says the same of the cut and of the masked file. Stops with the smallest file that
breaks a law. The tests run the same laws on a few.
"""

from __future__ import annotations

import argparse

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.search.graph.edit.patch_laws import Case, Laws, cases


def main() -> None:
    """Draw, check, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    laws = Laws()

    @seed(options.seed)
    @settings(
        max_examples=options.examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases())
    def law(case: Case) -> None:
        laws.check(case)

    law()
    print(
        f"{laws.files} files ({laws.refused} more that ONNX Runtime refuses), {laws.cut} of them cut or refitted, "
        f"{laws.grown} larger than the upload; largest error of cut to masked in float32 {laws.error:.1e}"
    )
    for counts in (laws.habits, laws.edits):
        print(", ".join(f"{name} {count}" for name, count in counts.most_common()))


if __name__ == "__main__":
    main()
