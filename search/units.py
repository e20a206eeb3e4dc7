"""Units of work: deterministic, keyed by what they depend on, kept on disk. Resuming a job is finding them done."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from search.graph.ir import Array

Arrays = dict[str, Array]


def digest(*parts: Any) -> str:
    """SHA-256 over JSON-able values, bytes and arrays; equal parts give equal digests."""
    state = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            state.update(f"{part.dtype}{part.shape}".encode())
            state.update(np.ascontiguousarray(part).tobytes())
        elif isinstance(part, bytes):
            state.update(part)
        else:
            state.update(json.dumps(part, sort_keys=True, default=str).encode())
        state.update(b"\0")
    return state.hexdigest()


class Units:
    """Results of finished units under one folder. ``root`` keys everything to the job's inputs."""

    def __init__(self, folder: Path, root: str) -> None:
        """The folder is made when the first result is kept."""
        self.folder = folder
        self.root = root

    def result(self, name: str, depends_on: Any, compute: Callable[[], Mapping[str, Array]]) -> Arrays:
        """The arrays of a unit: read if it was finished before, computed and kept otherwise."""
        path = self.folder / f"{name}-{digest(self.root, name, depends_on)[:24]}.npz"
        if path.exists():
            with np.load(path, allow_pickle=False) as stored:
                return {key: stored[key] for key in stored.files}
        arrays = dict(compute())
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        with partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes allow_pickle for an array
        os.replace(partial, path)  # a killed process leaves no half result  # noqa: PTH105
        return arrays
