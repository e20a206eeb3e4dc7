"""How well the published times of single kernels rank whole networks on a GPU: a yardstick for a model of those kernels.

    python -m tests.benchmarks.gpu_ranks --latency-dir DIR

DIR holds ``latency.csv`` and ``op_latency_gpu.csv.gz``. The kernels of a network, as measured on the same GPU, are summed and
compared with its measured latency: rank correlation, error of the best line (which has seen the answers), and the deviation
from run to run that the source states. The sums leave out launches and transfers, so a model may come out above them.
"""

from __future__ import annotations

import argparse
import collections
import csv
import gzip
from pathlib import Path

import numpy as np
from scipy import optimize, stats

from tests.benchmarks.fit_phones import DEVICES, RUNTIME


def kernel_sums_ms(path: Path, device: str) -> dict[str, float]:
    """Network to the sum of its measured kernels in milliseconds."""
    sums: dict[str, float] = collections.defaultdict(float)
    with gzip.open(path, "rt", newline="") as table:
        for row in csv.DictReader(table):
            if (row["device"], row["runtime"]) == (device, RUNTIME) and row["latency_ms"]:
                sums[row["network"]] += float(row["latency_ms"])
    return sums


def main() -> None:
    """Print one line a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency-dir", type=Path, required=True)
    folder = parser.parse_args().latency_dir
    with (folder / "latency.csv").open(newline="") as table:
        rows = [row for row in csv.DictReader(table) if (row["unit"], row["runtime"]) == ("gpu", RUNTIME)]
    print(f"{'GPU':10}{'networks':>9}{'rank of sums':>14}{'error of line':>15}{'run to run':>12}")
    for device in DEVICES:
        sums_ms = kernel_sums_ms(folder / "op_latency_gpu.csv.gz", device)
        ours = [row for row in rows if row["device"] == device and row["network"] in sums_ms]
        kernels_ms = np.array([sums_ms[row["network"]] for row in ours])
        latency_ms = np.array([float(row["latency_ms"]) for row in ours])
        deviation = np.median([float(row["latency_std_ms"]) / float(row["latency_ms"]) for row in ours])
        line = np.column_stack([kernels_ms, np.ones_like(kernels_ms)]) / latency_ms[:, None]
        share, _ = optimize.nnls(line, np.ones_like(latency_ms))
        rank = stats.spearmanr(kernels_ms, latency_ms).statistic
        print(f"{device:10}{len(ours):9}{rank:14.4f}{np.mean(np.abs(line @ share - 1)):15.1%}{deviation:12.1%}")


if __name__ == "__main__":
    main()
