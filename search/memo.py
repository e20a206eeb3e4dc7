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
        kept = self.checkpoint(name, depends_on)
        stored = kept.load()
        if stored is not None:
            return stored
        arrays = dict(compute())
        kept.save(arrays)
        return arrays

    def checkpoint(self, name: str, depends_on: Any) -> Checkpoint:
        """A file for a unit: its result, or the state of one that is not finished."""
        return Checkpoint(self.folder / f"{name}-{digest(self.root, name, depends_on)[:24]}.npz")


class Checkpoint:
    """Arrays in one file, replaced as a whole: a killed process leaves no half file."""

    def __init__(self, path: Path) -> None:
        """Nothing is written until the first `save`."""
        self.path = path

    def load(self) -> Arrays | None:
        """What was saved last, if anything."""
        if not self.path.exists():
            return None
        with np.load(self.path, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}

    def save(self, arrays: Mapping[str, Array]) -> None:
        """Replace what was saved."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".part")
        with partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes allow_pickle for an array
        os.replace(partial, self.path)  # noqa: PTH105

    def clear(self) -> None:
        """Forget what was saved."""
        self.path.unlink(missing_ok=True)
