"""Transactions on SQLite and PostgreSQL that behave alike: a writer sees no other writer half way."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

_BUSY_TIMEOUT_S = 10


class Database:
    """Where the rows are.

    Args:
        url: SQLAlchemy URL.
        clock: seconds since the epoch.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.engine = _engine(url)
        self._write = orm.sessionmaker(self.engine, expire_on_commit=False)
        self._read = orm.sessionmaker(self.engine.execution_options(read_only=True), expire_on_commit=False)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    @contextlib.contextmanager
    def writing(self, locks: Iterable[str] = ()) -> Iterator[orm.Session]:
        """A transaction that may write; commits at the end.

        Args:
            locks: names that one transaction at a time may hold. On SQLite a writer is alone anyway.
        """
        with self._write.begin() as session:
            if self.engine.dialect.name == "postgresql":
                for name in sorted(set(locks)):  # in one order, so that no two wait for each other
                    session.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(name, 0))))
            yield session

    @contextlib.contextmanager
    def reading(self) -> Iterator[orm.Session]:
        """A transaction that only reads, and waits for no writer."""
        with self._read.begin() as session:
            yield session


def _engine(url: str) -> sa.Engine:
    engine = sa.create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _configure_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself; `_begin_sqlite` does
    connection.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_S * 1000}")
    connection.execute("PRAGMA journal_mode=WAL")  # readers go on beside the writer
    connection.execute("PRAGMA synchronous=FULL")  # a 202 survives a power cut
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: sa.Connection) -> None:
    # IMMEDIATE: a deferred transaction that reads first fails with "database is locked" when it comes to write.
    read_only = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
