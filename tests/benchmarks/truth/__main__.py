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

from tests.benchmarks.truth import jobs, tables

ROOT = Path(__file__).parents[3]


def main(argv: list[str] | None = None) -> int:
    """Run the parts, print what they found; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=["jobs"])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "secateur-truth")
    parser.add_argument("--before", type=Path)
    parser.add_argument("--most", type=int, default=60, help="jobs")
    arguments = parser.parse_args(argv)
    chosen = jobs.every()[: arguments.most]
    for title, code in (("before", arguments.before), ("after", ROOT)):
        if code is not None:
            found = jobs.results(chosen, code, arguments.folder / title, confidence=title == "after")
            print(f"\njobs, {title}\n", *tables.summary(list(found)), sep="\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
