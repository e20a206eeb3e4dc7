"""Thousands of random networks, cut at random: ``python -m tests.benchmarks.random_graphs [--examples 2000] [--seed 0]``.

Of every network, ONNX Runtime must say the same of the cut and of the masked file, and the same of the file and of what we
write of it unpruned. Prints how many were tried, of what layers, how much went, the largest error, and stops
with the smallest network that breaks a law. The tests run the same laws on a few.
"""

from __future__ import annotations

import argparse
import collections

import numpy as np
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st

from search.graph.onnx import read, write
from tests.search.graph.nets import Net, images, relative_error, run_ort
from tests.search.space.laws import cut_against_masked
from tests.search.space.test_surgery_laws import networks

TOLERANCE = 1e-4  # deep random networks amplify the rounding of sums in another order


class Tally:
    """What has been seen."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.networks = 0
        self.pruned = 0
        self.operators: collections.Counter[str] = collections.Counter()
        self.removed: list[float] = []
        self.cut_error = 0.0
        self.written_error = 0.0

    def check(self, net: Net, share: float, choice: int) -> None:
        """Both laws on one network."""
        note("\n".join(f"{node.output[0]} = {node.op_type}({', '.join(node.input)})" for node in net.nodes))
        data, feeds = net.bytes(), {"x": images(2, 3, 5, 5)}
        cut, cut_error, found = cut_against_masked(data, feeds, share=share, seed=choice)
        written = relative_error(run_ort(write.export(read.load(data)), feeds), run_ort(data, feeds))
        self.networks += 1
        self.pruned += bool(found.prunable)
        self.operators.update(node.op_type for node in net.nodes)
        self.removed.append(1 - len(cut) / len(data))
        self.cut_error, self.written_error = max(self.cut_error, cut_error), max(self.written_error, written)
        assert cut_error < TOLERANCE, f"cut differs from masked by {cut_error:.1e}"
        assert written < TOLERANCE, f"written differs from read by {written:.1e}"


def main() -> None:
    """Draw, check, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tally = Tally()

    @seed(options.seed)
    @settings(
        max_examples=options.examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(net=networks(), share=st.floats(0.0, 1.0), choice=st.integers(0, 2**31 - 1))
    def law(net: Net, share: float, choice: int) -> None:
        tally.check(net, share, choice)

    law()
    print(
        f"{tally.networks} networks ({tally.pruned} with something to prune), up to "
        f"{max(tally.removed):.0%} of the file gone, {np.mean(tally.removed):.0%} on average; largest error of cut to masked "
        f"{tally.cut_error:.1e}, of written to read {tally.written_error:.1e}"
    )
    print(", ".join(f"{operator} {count}" for operator, count in tally.operators.most_common()))


if __name__ == "__main__":
    main()
