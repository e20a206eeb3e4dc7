"""Where bytes are kept: below the data directory, or in a bucket that speaks S3. Files by key, written whole, never changed."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from service.settings import Settings

_READ_BYTES = 2**20


class Storage(Protocol):
    """Files by key; keys look like paths and come from rows, never from a request."""

    shared: bool
    """Machines share these files and nothing else; a job's checkpoints must be kept here too."""

    def adopt(self, path: Path, key: str) -> None:
        """Take a file over; the same key again is replaced."""

    def open(self, key: str) -> io.BufferedReader:
        """Read a file; it can seek.

        Raises:
            FileNotFoundError: no such key.
        """

    def fetch(self, key: str, target: Path) -> None:
        """Copy a file to `target`.

        Raises:
            FileNotFoundError: no such key.
        """

    def remove(self, key: str) -> None:
        """Remove a file; one that is not there is no error."""

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys that start with `prefix`, a whole folder."""

    def works(self) -> bool:
        """Whether files can be read and written."""


class DiskStorage:
    """Files below one folder.

    Args:
        root: the folder; `adopt` renames into it, so it is on the file system of what is adopted.
    """

    shared = False

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, key: str) -> Path:
        """Where a file is, or would be."""
        return self._root / key

    def adopt(self, path: Path, key: str) -> None:
        """See `Storage`."""
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)

    def open(self, key: str) -> io.BufferedReader:
        """See `Storage`."""
        return self.path(key).open("rb")

    def fetch(self, key: str, target: Path) -> None:
        """See `Storage`. A copy: a child must not be able to change what is kept."""
        shutil.copyfile(self.path(key), target)

    def remove(self, key: str) -> None:
        """See `Storage`."""
        self.path(key).unlink(missing_ok=True)

    def keys(self, prefix: str) -> Iterator[str]:
        """See `Storage`."""
        folder = self._root / prefix
        yield from (path.relative_to(self._root).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())

    def works(self) -> bool:
        """See `Storage`."""
        return os.access(self._root, os.W_OK)


class S3Storage:
    """Files in a bucket. Credentials and endpoint come from the standard AWS variables; a job's child sees none of them.

    Args:
        url: ``s3://bucket`` or ``s3://bucket/prefix``.
    """

    shared = True

    def __init__(self, url: str) -> None:
        import boto3  # noqa: PLC0415 - an extra; only who uses a bucket needs it
        import botocore.config  # noqa: PLC0415
        import botocore.exceptions  # noqa: PLC0415

        place = urlsplit(url)
        self._bucket, self._prefix = place.netloc, place.path.strip("/")
        config = botocore.config.Config(
            connect_timeout=5, read_timeout=60, retries={"mode": "standard", "max_attempts": 4}
        )
        self._client: Any = boto3.session.Session().client("s3", config=config)
        self._errors = botocore.exceptions

    def _name(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    @contextlib.contextmanager
    def _asking(self, key: str) -> Iterator[None]:
        try:
            yield
        except self._errors.ClientError as error:
            if error.response["Error"]["Code"] in {"404", "NoSuchKey", "NotFound"}:
                raise FileNotFoundError(f"no {key} in the bucket {self._bucket}") from error
            raise OSError(f"the bucket {self._bucket} refused {key}: {error}") from error
        except self._errors.BotoCoreError as error:
            raise OSError(f"the bucket {self._bucket} does not answer: {error}") from error

    def adopt(self, path: Path, key: str) -> None:
        """See `Storage`."""
        with self._asking(key):
            self._client.upload_file(str(path), self._bucket, self._name(key))
        path.unlink()

    def open(self, key: str) -> io.BufferedReader:
        """See `Storage`."""
        with self._asking(key):
            size = self._client.head_object(Bucket=self._bucket, Key=self._name(key))["ContentLength"]
        return io.BufferedReader(_S3File(self, key, size), _READ_BYTES)

    def read(self, key: str, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop`, the last one left out."""
        with self._asking(key):
            part = self._client.get_object(Bucket=self._bucket, Key=self._name(key), Range=f"bytes={start}-{stop - 1}")
            return bytes(part["Body"].read())

    def fetch(self, key: str, target: Path) -> None:
        """See `Storage`."""
        with self._asking(key):
            self._client.download_file(self._bucket, self._name(key), str(target))

    def remove(self, key: str) -> None:
        """See `Storage`."""
        with self._asking(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._name(key))

    def keys(self, prefix: str) -> Iterator[str]:
        """See `Storage`."""
        cut = len(self._prefix) + 1 if self._prefix else 0
        pages = self._client.get_paginator("list_objects_v2")
        with self._asking(prefix):
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._name(prefix).rstrip("/") + "/"):
                yield from (entry["Key"][cut:] for entry in page.get("Contents", ()))

    def works(self) -> bool:
        """See `Storage`."""
        try:
            with self._asking(""):
                self._client.head_bucket(Bucket=self._bucket)
        except OSError:
            return False
        return True


class _S3File(io.RawIOBase):
    """An object as a file that is read in ranges."""

    def __init__(self, storage: S3Storage, key: str, size: int) -> None:
        self._storage, self._key, self._size, self._at = storage, key, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        stop = min(self._size, self._at + len(buffer))
        if stop <= self._at:
            return 0
        data = self._storage.read(self._key, self._at, stop)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def storage_of(settings: Settings) -> Storage:
    """The storage that `settings` name."""
    return S3Storage(settings.storage_url) if settings.storage_url else DiskStorage(settings.data_dir)
