"""Fuzzing of the admission of uploads: ``python -m tests.faults.fuzz onnx|npz --minutes 10`` (needs atheris).

libFuzzer mutates models or archives, guided by the coverage of our own code, and stops at the first crash, at thirty seconds
for one input, and at 2 GiB of memory. An input may be admitted or refused with a typed error; anything else is a finding.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["search"]):
    from search.graph.onnx.read import load
    from search.input.data import read_npz
    from search.wire.errors import SecateurError

from tests.e2e.test_service import small_network
from tests.search.graph.hostile import HOSTILE


def _onnx(data: bytes) -> None:
    try:
        load(data)
    except SecateurError:
        return


def _npz(data: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        file.write(data)
        file.flush()
        try:
            read_npz(Path(file.name))
        except SecateurError:
            return


def _seeds(kind: str) -> list[bytes]:
    if kind == "onnx":
        return [small_network(), *(make() for name, make in HOSTILE.items() if len(make()) < 100_000)]
    archives = []
    for arrays in ({"x": np.zeros((4, 3), np.float32), "y": np.arange(4)}, {"x": np.zeros((2, 1, 2, 2), np.uint8)}):
        for save in (np.savez, np.savez_compressed):
            text = io.BytesIO()
            save(text, **arrays)
            archives.append(text.getvalue())
    return archives


def main() -> None:
    """Fuzz for so long; the exit code is libFuzzer's."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz", description=__doc__)
    parser.add_argument("kind", choices=["onnx", "npz"])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--corpus", type=Path, help="kept between runs")
    arguments = parser.parse_args()
    corpus = arguments.corpus or Path(tempfile.mkdtemp(prefix="corpus-"))
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(_seeds(arguments.kind)):
        (corpus / f"seed-{number}").write_bytes(seed)
    limits = ["-timeout=30", "-rss_limit_mb=2048", f"-max_total_time={int(60 * arguments.minutes)}", "-max_len=20000"]
    words = [sys.argv[0], *limits, "-print_final_stats=1", "-verbosity=0", str(corpus)]
    atheris.Setup(words, _onnx if arguments.kind == "onnx" else _npz)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
