"""The web server on a real port: clients that wait, are slow, break off or speak no HTTP hold nobody else up."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import flask
import pytest
import requests
from flask.testing import FlaskClient

from service import incoming
from service.app import create_app
from service.settings import Settings
from service.worker import run_job
from tests.faults.stack import running

from . import servers
from .conftest import PROFILE, plan, submit, upload
from .test_tus import MODEL, TUS

STREAM = {"Accept": "text/event-stream"}
HEALTH_S = 1.0
"""What Kubernetes waits for health; `make faults` has the figure beside five hundred watchers."""


@pytest.fixture(autouse=True)
def settings(settings: Settings) -> Settings:
    """Few threads, so that a client that holds one is missed."""
    return dataclasses.replace(settings, web_threads=4)


def connected(url: str, sent: bytes) -> socket.socket:
    """A connection on which so much was sent."""
    host, _, port = url.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.sendall(sent)
    return connection


def answered(url: str, sent: bytes) -> tuple[int, dict[str, str], bytes]:
    """What the server answers to these bytes: status, headers, body."""
    with connected(url, sent) as connection:
        return read_answer(connection)


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """The next whole answer on a connection, in however many pieces it comes: status, headers, body."""
    found, head, body, headers, length = b"", b"", b"", {}, -1
    with contextlib.suppress(ConnectionResetError):
        while not 0 <= length <= len(body) and (data := connection.recv(65536)):
            found += data
            head, end, body = found.partition(b"\r\n\r\n")
            if end:
                headers = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:])
                length = int(headers.get("content-length", -1))
    return int(head.split(b" ", 2)[1]), headers, body


def quickest(url: str, tries: int = 5) -> float:
    """Seconds that the slowest of some looks at health and of some polls took."""
    slowest = 0.0
    for _ in range(tries):
        for path in ("/livez", "/v1/jobs?limit=1"):
            began = time.monotonic()
            assert requests.get(url + path, timeout=20).ok
            slowest = max(slowest, time.monotonic() - began)
    return slowest


def test_watchers_hold_no_threads(http: FlaskClient, url: str) -> None:
    """Sixty streams and sixty long polls, thirty times the threads: health and polls are answered at once."""
    job = submit(http)
    address = url + job["urls"]["self"]
    tag = requests.get(address, timeout=20).headers["ETag"]
    head = f"GET {job['urls']['events']} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
    poll = f"GET {job['urls']['self']}?wait_s=20 HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: {tag}\r\n\r\n"
    watchers = [connected(url, text.encode()) for text in (head, poll) for _ in range(60)]
    assert all(b" 200 " in watcher.recv(4096) for watcher in watchers[:60])
    assert quickest(url) < HEALTH_S
    assert requests.post(url + job["urls"]["cancel"], timeout=20).ok
    assert all(b" 200 " in watcher.recv(65536) for watcher in watchers[60:])
    for watcher in watchers[:60]:
        text = b""
        while data := watcher.recv(65536):
            text += data
            if text.endswith(b"0\r\n\r\n"):
                break
        assert b'"cancelled"' in text
        watcher.close()


def test_one_watcher_too_many_is_told_to_come_again(http: FlaskClient, app: flask.Flask, settings: Settings) -> None:
    """A problem with Retry-After; when a watcher leaves there is room again."""
    job = submit(http)
    few = dataclasses.replace(settings, max_watchers=1)
    with servers.web(app, few) as url:
        address = url + job["urls"]["events"]
        first = requests.get(address, headers=STREAM, stream=True, timeout=20)
        refused = requests.get(address, headers=STREAM, timeout=20)
        assert (refused.status_code, refused.json()["type"]) == (503, "service-unavailable")
        assert refused.headers["Retry-After"] == "2"
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert refused.json()["request_id"] == refused.headers["X-Request-ID"]
        first.close()
        servers.wait_for(lambda: _has_room(address), 10)


def _has_room(address: str) -> bool:
    with requests.get(address, headers=STREAM, stream=True, timeout=20) as answer:
        return answer.status_code == 200


def test_a_stream_says_what_happens_and_ends(http: FlaskClient, url: str, settings: Settings) -> None:
    """Events come as they happen, each once and in order, whatever the place where the client goes on."""
    job = submit(http, plan(units=5, unit_s=0.1))
    found: dict[int, list[int]] = {}

    def read(after: int) -> None:
        headers = {**STREAM, "Last-Event-ID": str(after)}
        with requests.get(url + job["urls"]["events"], headers=headers, stream=True, timeout=30) as answer:
            lines = [line for line in answer.iter_lines(decode_unicode=True) if line.startswith("data: ")]
        found[after] = [json.loads(line.removeprefix("data: "))["seq"] for line in lines]

    readers = [threading.Thread(target=read, args=(after,)) for after in (0, 0, 1)]
    for reader in readers:
        reader.start()
    run_job(settings, job["id"], lambda: False)
    for reader in readers:
        reader.join()
    last = http.get(job["urls"]["events"]).get_json()["data"][-1]["seq"]
    assert found == {0: list(range(1, last + 1)), 1: list(range(2, last + 1))}
    over = requests.get(url + job["urls"]["events"], headers={**STREAM, "Last-Event-ID": str(last)}, timeout=20)
    assert over.status_code == 204


def test_a_long_poll_answers_when_the_job_changes(http: FlaskClient, url: str, settings: Settings) -> None:
    """Who waits gets the change as soon as there is one, and 304 when the time is over; too long a wait is refused."""
    address = url + submit(http)["urls"]["self"]
    tag = {"If-None-Match": requests.get(address, timeout=20).headers["ETag"]}
    began = time.monotonic()
    assert requests.get(f"{address}?wait_s=1", headers=tag, timeout=20).status_code == 304
    assert time.monotonic() - began > 0.9
    timer = threading.Timer(0.5, run_job, (settings, address.rsplit("/", 1)[1], lambda: False))
    timer.start()
    answer = requests.get(f"{address}?wait_s=20", headers=tag, timeout=30)
    assert (answer.status_code, answer.json()["status"] == "queued") == (200, False)
    assert time.monotonic() - began < 15
    timer.join()
    assert requests.get(f"{address}?wait_s=21", timeout=20).status_code == 422


def test_a_stream_answers_head(http: FlaskClient, url: str) -> None:
    """The headers at once; nobody waits for a body that never comes."""
    answer = requests.head(url + submit(http)["urls"]["events"], headers=STREAM, timeout=5)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/event-stream")


def test_slow_clients_hold_no_threads(url: str) -> None:
    """Clients stuck in their headers and in small bodies, ten times the threads: others are answered at once."""
    post = (
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    )
    slow = [connected(url, text) for text in (b"GET /livez HT", post) for _ in range(20)]
    assert quickest(url) < HEALTH_S
    for connection in slow:
        connection.close()


def test_slow_uploads_and_downloads_hold_no_threads(
    http: FlaskClient, app: flask.Flask, url: str, settings: Settings
) -> None:
    """Twenty large uploads that stop half way, and twenty downloads that nobody takes, beside polls."""
    job = submit(http, b" " * 2**23 + plan())
    assert run_job(settings, job["id"], lambda: False) == "succeeded"
    get = f"GET {job['urls']['artifacts']}/best.onnx HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    put = b"PUT /v1/files?purpose=model HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\nmodel"
    slow = [connected(url, text) for text in (get, put) for _ in range(20)]
    time.sleep(0.5)
    assert quickest(url) < HEALTH_S
    whole = b""
    with slow[0] as connection:
        while len(whole) < 2**23:
            whole += connection.recv(2**20)
    for connection in slow:
        connection.close()


def test_a_silent_client_is_let_go(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some seconds a body that stopped is answered 408, as a problem."""
    monkeypatch.setattr(incoming, "SILENCE_S", 0.3)
    head = (
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    )
    status, headers, body = answered(url, head)
    assert (status, headers["content-type"]) == (408, "application/problem+json")
    assert json.loads(body)["status"] == 408


def test_late_headers_are_not_waited_for(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for headers that never end, on a fresh connection and on one that was used before."""
    from service import web_server

    monkeypatch.setattr(web_server, "_HEAD_S", 0.3)
    for before in (b"", b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        with connected(url, before) as connection:
            if before:
                assert read_answer(connection)[0] == 200
                time.sleep(0.5)  # an idle connection is no late one
            connection.sendall(b"GET /livez HTTP/1.1\r\nHo")
            assert read_answer(connection)[0] == 408


FORM = (
    b"--X\r\nContent-Disposition: form-data; name=spec\r\n\r\n%s\r\n"
    b"--X\r\nContent-Disposition: form-data; name=model; filename=m\r\n\r\n%s\r\n--X--\r\n"
)


@pytest.mark.parametrize("kind", ["json", "form", "raw"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_cut_off_does_nothing(http: FlaskClient, url: str, kind: str, chunked: bool) -> None:
    """Neither a job nor a file is made of a request whose end did not arrive, even where what came is valid."""
    spec: dict[str, Any] = {"profiles": [PROFILE]}
    whole = {
        "json": json.dumps({**spec, "model": upload(http, plan())}).encode(),
        "form": FORM % (json.dumps(spec).encode(), plan()),
        "raw": b"a model of its own",
    }[kind]
    line = b"PUT /v1/files?purpose=model" if kind == "raw" else b"POST /v1/jobs"
    media = {
        "json": b"application/json",
        "form": b"multipart/form-data; boundary=X",
        "raw": b"application/octet-stream",
    }
    framed = b"Content-Length: %d\r\n\r\n%s" % (len(whole) + 1, whole)
    if chunked:
        framed = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(whole), whole)
    text = line + b" HTTP/1.1\r\nHost: localhost\r\nContent-Type: " + media[kind] + b"\r\n" + framed
    with connected(url, text) as connection:
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            assert b" 20" not in connection.recv(65536)[:15]
    time.sleep(0.3)
    assert http.get("/v1/jobs").get_json()["data"] == []
    if kind == "raw":
        assert http.put("/v1/files?purpose=model", data=whole).status_code == 201  # not kept before


def test_a_broken_tus_part_keeps_what_arrived(url: str) -> None:
    """A client that breaks off in the middle of a PATCH goes on from there."""
    made = requests.post(f"{url}/v1/uploads", headers={**TUS, **MODEL, "Upload-Length": "3000000"}, timeout=20)
    path = made.headers["Location"]
    for sent, size in ((1000, 0), (2_000_000, 1000)):
        head = f"PATCH {path} HTTP/1.1\r\nHost: localhost\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {size}\r\n"
        head += f"Content-Type: application/offset+octet-stream\r\nContent-Length: {3_000_000 - size}\r\n\r\n"
        with connected(url, head.encode() + bytes(sent)):
            time.sleep(0.5)
        servers.wait_for(lambda: _offset(url + path) > 0, 10)
        time.sleep(0.3)
        assert _offset(url + path) == size + sent


def _offset(address: str) -> int:
    return int(requests.head(address, headers=TUS, timeout=20).headers["Upload-Offset"])


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /" + b"a" * 400_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 400_000 + b"\r\n\r\n", 431),
        (b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: odd\r\n\r\n", 501),
        (b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\nhello", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
        (b"GET /livez HTTP/1.1\r\nHost: evil.example\r\n\r\n", 400),
    ],
    ids=range(11),
)
def test_what_is_no_http_is_a_problem(url: str, sent: bytes, status: int) -> None:
    """Each with its status, as problem+json, and the server goes on."""
    found, headers, body = answered(url, sent)
    assert (found, headers["content-type"]) == (status, "application/problem+json")
    problem = json.loads(body)
    assert problem["status"] == status
    assert {"type", "title", "detail", "request_id"} <= problem.keys()
    assert requests.get(f"{url}/livez", timeout=20).ok


@pytest.mark.parametrize(("trusted", "prefix"), [(("127.0.0.0/8",), "/secateur"), (("10.0.0.0/8",), "")])
def test_a_prefix_is_believed_of_a_proxy(
    http: FlaskClient, app: flask.Flask, settings: Settings, trusted: tuple[str, ...], prefix: str
) -> None:
    """Addresses in answers carry it when a known proxy names it, and only then."""
    job = submit(http)
    with servers.web(app, dataclasses.replace(settings, trusted_proxies=trusted)) as url:
        headers = {"X-Forwarded-Prefix": "/secateur", "X-Forwarded-Proto": "https"}
        answer = requests.get(url + job["urls"]["self"], headers=headers, timeout=20).json()
        assert answer["urls"]["self"] == prefix + job["urls"]["self"]
        document = requests.get(f"{url}/openapi.json", headers=headers, timeout=20).json()
        assert document["servers"] == [{"url": prefix or "/"}]


def test_several_processes_share_the_port(tmp_path: Path) -> None:
    """Each answers, also beside the streams of the others, and all end with the first."""
    with running("sqlite+files", tmp_path, workers=0, web_workers=2) as stack:
        found = servers.wait_for(lambda: len(stack.family("web")) >= 3 and stack.family("web"))
        answers = [requests.get(f"{stack.url}/livez", timeout=20).status_code for _ in range(20)]
        assert answers == 20 * [200]
    servers.wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in found), 20)


def test_large_bodies_arrive_whole(url: str) -> None:
    """With and without a length, above what is read before a thread is taken."""
    data = bytes(range(256)) * 20_000
    pieces = iter([data[:100], data[100:3_000_000], data[3_000_000:]])
    first = requests.put(f"{url}/v1/files?purpose=model", data=pieces, timeout=60)
    second = requests.put(f"{url}/v1/files?purpose=model", data=data, timeout=60)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["bytes"] == len(data)


def test_a_refused_upload_is_not_asked_for(app: flask.Flask, settings: Settings) -> None:
    """A client that waits for `100 Continue` hears 413 and sends nothing."""
    small = dataclasses.replace(settings, max_upload_bytes=2 * 2**20)
    with servers.web(create_app(small), small) as url:
        head = b"PUT /v1/files?purpose=model HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        status, _, body = answered(url, head + b"Content-Length: 3000000\r\n\r\n")
    assert (status, json.loads(body)["type"]) == (413, "too-large")
