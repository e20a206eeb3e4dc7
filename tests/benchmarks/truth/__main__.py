"""Whether what a report says is true.

``python -m tests.benchmarks.truth`` runs every part that is not done yet, and prints the tables. What is done is kept in
``--folder``, so that a run that was stopped goes on. ``--part`` runs some parts alone; ``--before DIR`` runs the sixty jobs with
the code of another checkout too, on the same seeds.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is loaded

from tests.benchmarks.truth import coverage, jobs, mutants, prices, tables

ROOT = Path(__file__).parents[3]
PARTS = ("coverage", "prices", "jobs", "mutants", "others")


def main(argv: list[str] | None = None) -> int:
    """Run the parts, print what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "secateur-truth")
    parser.add_argument("--before", type=Path)
    parser.add_argument("--most", type=int, default=60, help="jobs")
    arguments = parser.parse_args(argv)
    wanted = arguments.part or PARTS
    for part, rows in (("coverage", coverage.rows), ("prices", prices.rows)):
        for line in rows() if part in wanted else ():
            print(line, flush=True)
    chosen = jobs.every()[: arguments.most]
    for title, code in (("before", arguments.before), ("after", ROOT)) if "jobs" in wanted else ():
        if code is not None:
            found = jobs.results(chosen, code, arguments.folder / title, confidence=title == "after")
            print(f"\njobs, {title}\n", *tables.summary(list(found)), sep="\n", flush=True)
    for part, planted in (("mutants", mutants.KNOWN), ("others", ())):
        if part in wanted:
            caught = 0
            drawn = planted or mutants.others(100)
            for mutant, found_out in mutants.run(drawn):
                caught += found_out
                print(f"{'caught' if found_out else 'UNNOTICED'}: {mutant.name}", flush=True)
            print(f"{part}: {caught} of {len(drawn)} caught", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
