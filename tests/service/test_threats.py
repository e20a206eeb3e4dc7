"""Threats that belong to no other file: formulas in tables, slow clients, keys of other tenants in idempotency, paths."""

from __future__ import annotations

import csv
import io
import socket
import threading
import time
from pathlib import Path

import requests

from service.api.results import to_csv
from service.artifacts import BlobStore
from service.protocol import read_events
from service.settings import Settings
from tests.faults.stack import running


def test_a_formula_in_a_name_is_text() -> None:
    """A spreadsheet that opens the table computes nothing."""
    latency = {"value": 1.0, "low": 1.0, "high": 1.0, "kind": "modelled"}
    accuracy = {"value": 0.9, "low": 0.8, "high": 1.0, "delta": -0.1, "n": 10, "metric": "=HYPERLINK(1)"}
    point = {"id": '=cmd|"/c calc"!A1', "profile": "@SUM(1)", "accuracy": accuracy, "latency_ms": latency}
    point |= {"predicted_latency_ms": latency, "artifact": "+1", "sha256": "\t=1"}
    front = {"dense": {**point, "id": "-1+1"}, "points": [point], "best": None}
    rows = list(csv.DictReader(io.StringIO(to_csv({"p": front}))))
    assert [row["id"] for row in rows] == ["'-1+1", "'" + str(point["id"])]
    texts = [value for row in rows for name, value in row.items() if name in {"id", "profile", "metric", "artifact"}]
    assert all(text.startswith("'") for text in texts)


def test_slow_clients_stop_nobody(tmp_path: Path) -> None:
    """Thirty clients that send a byte and wait, twice as many as there are threads: others are answered."""
    with running("sqlite+files", tmp_path, workers=0) as stack:
        slow = [socket.create_connection(("127.0.0.1", stack.settings.port)) for _ in range(30)]
        for connection in slow:
            connection.sendall(b"G")
        time.sleep(1)
        for _ in range(10):
            assert requests.get(f"{stack.url}/livez", timeout=60).ok
        for connection in slow:
            connection.close()


def test_a_childs_events_cannot_swamp_the_rows(tmp_path: Path) -> None:
    """Lines that are no events, and lines that are too long, are left out; the rest is read."""
    good = b'{"type": "warning", "message": "w"}\n'
    lines = [
        b"\x00\xff\n",
        b'{"type": "status", "status": "succeeded"}\n',
        b'"' + b"x" * 100_000 + b'"\n',
        good,
        b"half",
    ]
    (tmp_path / "events.jsonl").write_bytes(b"".join(lines))
    found = read_events(tmp_path, 0)
    assert [body["message"] for body in found.bodies] == ["w"]
    assert found.position == sum(map(len, lines)) - len(b"half")


def test_two_writers_of_the_same_bytes(tmp_path: Path) -> None:
    """Uploads of the same bytes at once are one whole blob, and nothing is left over."""
    blobs = BlobStore.of(Settings(data_dir=tmp_path))

    def write() -> None:
        with blobs.writer() as writer:
            for _ in range(50):
                writer.write(b"z" * 1000)
            digests.add(writer.seal().sha256)
            writer.keep()

    digests: set[str] = set()
    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [digest] = digests
    with blobs.open(digest) as file:
        assert file.read() == b"z" * 50_000
    assert list(blobs.incoming.iterdir()) == []
