"""Finished units of work where machines share no disk: kept in the storage, so that the next attempt may run anywhere.

On one disk the job's directory itself is the checkpoint, and nothing is done here.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from service.storage import Storage


class Checkpoints:
    """The finished units of one job.

    Args:
        storage: where they are kept.
        job_id: of the job.
        units: the folder in which the engine keeps them; a file there is whole once it has its name.
    """

    def __init__(self, storage: Storage, job_id: str, units: Path) -> None:
        self._storage, self._prefix, self._units = storage, f"units/{job_id}", units
        self._kept: set[str] = set()

    def restore(self) -> None:
        """Fetch what earlier attempts finished."""
        if not self._storage.shared:
            return
        for key in self._storage.keys(f"{self._prefix}/"):
            target = self._units / key.removeprefix(f"{self._prefix}/")
            self._kept.add(target.name)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                partial = target.with_name(f"{target.name}.part")
                self._storage.fetch(key, partial)
                partial.replace(target)

    def keep(self) -> None:
        """Keep what was finished since the last time."""
        if not (self._storage.shared and self._units.is_dir()):
            return
        for path in sorted(self._units.iterdir()):
            if path.name not in self._kept and path.is_file() and not path.is_symlink() and path.suffix != ".part":
                copy = path.with_name(f"{path.name}.sent.part")
                shutil.copyfile(path, copy)  # adopting takes the file away
                self._storage.adopt(copy, f"{self._prefix}/{path.name}")
                self._kept.add(path.name)


def drop(storage: Storage, job_id: str) -> None:
    """Remove a job's checkpoints."""
    if storage.shared:
        for key in list(storage.keys(f"units/{job_id}/")):
            storage.remove(key)
