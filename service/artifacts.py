"""Content-addressed files: a blob is named by the SHA-256 of its bytes, written once, never changed."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO, Self

from service.settings import Settings
from service.storage import Storage, storage_of

_CHUNK_BYTES = 2**20


@dataclasses.dataclass(frozen=True)
class Blob:
    """A stored file."""

    sha256: str
    bytes: int


class BlobWriter:
    """A file being received: hashed as it is written, in constant memory, gone unless kept.

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

    def seal(self) -> Blob:
        """Make what was written durable here, and say what it is; `keep` comes next. A second time nothing happens."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        return Blob(self._hash.hexdigest(), self.size)

    def read_back(self) -> bytes:
        """What was written, all of it."""
        if not self._file.closed:
            self._file.flush()
        return self._path.read_bytes()

    def keep(self) -> None:
        """Give the sealed bytes their name. The caller holds them (`service.retention.hold`) until a row names them."""
        self._blobs.adopt(self._path, self._hash.hexdigest())

    def close(self) -> None:
        """Drop what was written and not kept."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class BlobStore:
    """Blobs by digest, fanned out by its first two digits.

    Args:
        storage: where they are.
        incoming: folder of files being received; on the file system of the storage, so that adopting one is a rename.
    """

    def __init__(self, storage: Storage, incoming: Path) -> None:
        self.storage = storage
        self.incoming = incoming
        self.incoming.mkdir(parents=True, exist_ok=True)

    @classmethod
    def of(cls, settings: Settings) -> BlobStore:
        """The blobs of `settings`."""
        return cls(storage_of(settings), settings.data_dir / "incoming")

    def writer(self) -> BlobWriter:
        """A new blob to write into."""
        return BlobWriter(self)

    def receive(self, source: Path) -> BlobWriter:
        """A new blob with a copy of a file."""
        writer = self.writer()
        with source.open("rb") as file:
            shutil.copyfileobj(file, writer, _CHUNK_BYTES)
        return writer

    def adopt(self, path: Path, sha256: str) -> None:
        """Take a finished file over under its name; a blob that is there already is replaced by its equal."""
        self.storage.adopt(path, _key(sha256))

    def open(self, sha256: str) -> io.BufferedReader:
        """Read a blob; it can seek. `sha256` comes from a row, never from a request."""
        return self.storage.open(_key(sha256))

    def copy_to(self, sha256: str, target: Path) -> None:
        """Copy a blob to `target` for a child to read. A copy: a child must not be able to change the blob."""
        partial = target.with_name(target.name + ".part")
        self.storage.fetch(_key(sha256), partial)
        partial.replace(target)

    def remove(self, sha256: str) -> None:
        """Delete a blob that no row names any more."""
        self.storage.remove(_key(sha256))


def _key(sha256: str) -> str:
    return f"blobs/{sha256[:2]}/{sha256}"
