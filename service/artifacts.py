"""Content-addressed files: a blob is named by the SHA-256 of its bytes, written once, never changed."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO, Self

_CHUNK_BYTES = 2**20


@dataclasses.dataclass(frozen=True)
class Blob:
    """A stored file."""

    sha256: str
    bytes: int


class BlobWriter:
    """A file being received: hashed as it is written, in constant memory, gone unless committed.

    It is file-like enough for a form parser to write an upload straight into it.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        descriptor, name = tempfile.mkstemp(dir=blobs.incoming)
        self._file: IO[bytes] = os.fdopen(descriptor, "wb")
        self._path = Path(name)
        self._hash = hashlib.sha256()
        self.size = 0
        """Bytes written so far."""

    def write(self, data: bytes) -> int:
        """Append `data`."""
        self._hash.update(data)
        self.size += len(data)
        return self._file.write(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Accepted from the form parser, which rewinds what it wrote; writing goes on at the end."""
        return offset if whence == os.SEEK_SET else self.size + offset

    def commit(self) -> Blob:
        """Make the bytes durable under their name."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        blob = Blob(self._hash.hexdigest(), self.size)
        self._blobs.adopt(self._path, blob.sha256)
        return blob

    def close(self) -> None:
        """Drop what was written; nothing happens after `commit`."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class BlobStore:
    """Blobs below ``data_dir/blobs``, fanned out by the first two digits of the digest."""

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir / "blobs"
        self.incoming = data_dir / "incoming"
        """Files being received, on the same file system, so that adopting one is a rename."""
        self._root.mkdir(parents=True, exist_ok=True)
        self.incoming.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where the blob is, or would be. `sha256` comes from a row, never from a request."""
        return self._root / sha256[:2] / sha256

    def writer(self) -> BlobWriter:
        """A new blob to write into."""
        return BlobWriter(self)

    def put(self, source: Path) -> Blob:
        """Copy a file in."""
        with source.open("rb") as file, self.writer() as writer:
            shutil.copyfileobj(file, writer, _CHUNK_BYTES)
            return writer.commit()

    def adopt(self, path: Path, sha256: str) -> None:
        """Rename a finished file to its name; a blob that is there already stays."""
        target = self.path(sha256)
        target.parent.mkdir(exist_ok=True)
        path.replace(target)

    def copy_to(self, sha256: str, target: Path) -> None:
        """Copy a blob to `target` for a child to read. A copy: a child must not be able to change the blob."""
        partial = target.with_name(target.name + ".part")
        shutil.copyfile(self.path(sha256), partial)
        partial.replace(target)

    def remove(self, sha256: str) -> None:
        """Delete a blob that no row names any more."""
        self.path(sha256).unlink(missing_ok=True)
