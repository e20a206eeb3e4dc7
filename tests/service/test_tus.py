"""Resumable uploads, with the official Python client and byte by byte."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import threading

import flask
import pytest
import requests
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from service import keys
from service.api.context import Context
from service.app import create_app
from service.reconciler import sweep
from service.settings import Settings
from service.store import Store

TUS = {"Tus-Resumable": "1.0.0"}
MODEL = {"Upload-Metadata": "purpose bW9kZWw=,filename bS5vbm54"}


def begin(http: FlaskClient, size: int) -> str:
    """A new upload; its address."""
    answer = http.post("/v1/uploads", headers={**TUS, **MODEL, "Upload-Length": str(size)})
    assert answer.status_code == 201
    return str(answer.headers["Location"])


def send(http: FlaskClient, url: str, offset: int, data: bytes, **headers: str) -> TestResponse:
    """One PATCH."""
    given = {**TUS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    return http.patch(url, data=data, headers={**given, **{k.replace("_", "-"): v for k, v in headers.items()}})


def test_the_official_client_uploads_and_resumes(url: str) -> None:
    """A client that stopped half way is followed by another that asks where to go on; the file has the bytes."""
    from tusclient import client

    data = bytes(range(256)) * 4000
    ours = client.TusClient(f"{url}/v1/uploads")
    metadata = {"purpose": "dataset", "filename": "d.npz"}
    first = ours.uploader(file_stream=io.BytesIO(data), chunk_size=100_000, metadata=metadata, upload_checksum=True)
    for _ in range(3):
        first.upload_chunk()  # type: ignore[no-untyped-call]
    address = str(first.url)
    assert requests.head(address, headers=TUS, timeout=10).headers["Upload-Offset"] == "300000"
    second = ours.uploader(file_stream=io.BytesIO(data), chunk_size=400_000, url=address)
    assert second.offset == 300_000
    second.upload()
    found = requests.get(address, timeout=10).json()
    assert (found["received"], found["bytes"]) == (len(data), len(data))
    again = requests.put(f"{url}/v1/files?purpose=dataset", data=data, timeout=10)
    assert (again.status_code, again.json()["id"]) == (200, found["file"])
    assert again.json()["sha256"] == hashlib.sha256(data).hexdigest()


def test_the_protocol(http: FlaskClient) -> None:
    """Offsets, versions, lengths and ends are answered as the specification says."""
    able = http.options("/v1/uploads")
    assert (able.status_code, able.headers["Tus-Version"]) == (204, "1.0.0")
    url = begin(http, 6)
    assert send(http, url, 3, b"def").status_code == 409
    part = send(http, url, 0, b"abc")
    assert (part.status_code, part.headers["Upload-Offset"]) == (204, "3")
    state = http.head(url, headers=TUS)
    assert (state.headers["Upload-Offset"], state.headers["Upload-Length"]) == ("3", "6")
    assert state.headers["Cache-Control"] == "no-store"
    assert send(http, url, 3, b"defg").status_code == 413
    assert send(http, url, 3, b"def", Tus_Resumable="0.2.2").status_code == 412
    assert send(http, url, 3, b"def", Content_Type="text/plain").status_code == 415
    assert send(http, url, 3, b"def").headers["Upload-Offset"] == "6"
    file = http.get(url).get_json()["file"]
    assert http.put("/v1/files?purpose=model", data=b"abcdef").get_json()["id"] == file
    assert http.delete(url, headers=TUS).status_code == 204
    assert http.head(url, headers=TUS).status_code == 404
    assert http.post("/v1/uploads", headers={**TUS, "Upload-Length": "6"}).status_code == 422
    too_large = http.post("/v1/uploads", headers={**TUS, **MODEL, "Upload-Length": "9" * 15})
    assert (too_large.status_code, too_large.get_json()["type"]) == (413, "too-large")


def test_a_wrong_checksum_does_not_count(http: FlaskClient) -> None:
    """The offset stays; the right bytes go on from there."""
    url = begin(http, 3)
    right = base64.b64encode(hashlib.sha1(b"abc").digest()).decode()
    refused = send(http, url, 0, b"abX", Upload_Checksum=f"sha1 {right}")
    assert (refused.status_code, refused.get_json()["type"]) == (460, "digest-mismatch")
    assert http.head(url, headers=TUS).headers["Upload-Offset"] == "0"
    assert send(http, url, 0, b"abc", Upload_Checksum=f"sha1 {right}").status_code == 204


def test_of_two_at_the_same_offset_one_counts(app: flask.Flask) -> None:
    """Twenty threads send the same part: one is taken, the file has the bytes once, nothing is left over."""
    url = begin(app.test_client(), 4)
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(send(app.test_client(), url, 0, b"ab").status_code))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [204] + 19 * [409]
    assert send(app.test_client(), url, 2, b"cd").status_code == 204
    context: Context = app.extensions["secateur"]
    assert list(context.blobs.storage.keys("uploads/")) == []
    assert list(context.blobs.incoming.iterdir()) == []


def test_uploads_that_take_too_long_go(settings: Settings, app: flask.Flask) -> None:
    """After its time an upload answers 410, and the sweep removes what arrived."""
    http = app.test_client()
    url = begin(http, 4)
    send(http, url, 0, b"ab")
    context: Context = app.extensions["secateur"]
    now = context.store.clock
    context.store.clock = lambda: now() + 3600 * settings.upload_hours + 1
    assert http.head(url, headers=TUS).status_code == 410
    sweep(context.store, context.blobs, context.announcer, settings)
    assert http.head(url, headers=TUS).status_code == 404
    assert list(context.blobs.storage.keys("uploads/")) == []


@pytest.mark.parametrize("version", [None, "", "nonsense", "0.2.2", "1.0"])
def test_another_version_is_refused_as_tus_says(http: FlaskClient, version: str | None) -> None:
    """Precondition failed, with the version that is spoken here; nothing is begun or changed."""
    url = begin(http, 6)
    headers = {**MODEL, "Upload-Length": "6"} | ({} if version is None else {"Tus-Resumable": version})
    part = {**headers, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    for answer in (
        http.post("/v1/uploads", headers=headers),
        http.patch(url, data=b"abc", headers=part),
        http.delete(url, headers=headers),
    ):
        assert (answer.status_code, answer.headers["Tus-Version"]) == (412, "1.0.0")
    assert http.head(url, headers=TUS).headers["Upload-Offset"] == "0"


@pytest.mark.parametrize("checksum", ["crc32 AAAA", "sha1", "sha1 not-base64", ""])
def test_an_unknown_checksum_is_a_bad_request(http: FlaskClient, checksum: str) -> None:
    """400 as tus says, and the part does not count."""
    url = begin(http, 3)
    answer = send(http, url, 0, b"abc", Upload_Checksum=checksum)
    assert (answer.status_code, answer.get_json()["type"]) == (400, "validation-error")
    assert http.head(url, headers=TUS).headers["Upload-Offset"] == "0"


def test_uploads_count_in_the_quota(settings: Settings) -> None:
    """From their beginning on, whole, beside files; what is given up makes room, what is finished counts once."""
    counted = dataclasses.replace(settings, api_keys="on", max_stored_bytes=1000)
    store = Store.open(counted)
    http = create_app(counted).test_client()
    key = {"Authorization": f"Bearer {keys.create(store, 'a', '')[1]}"}
    other = {"Authorization": f"Bearer {keys.create(store, 'b', '')[1]}"}

    def start(size: int, who: dict[str, str] = key) -> TestResponse:
        return http.post("/v1/uploads", headers={**TUS, **MODEL, **who, "Upload-Length": str(size)})

    assert start(3_000_000).status_code == 429
    assert http.put("/v1/files?purpose=model", data=b"f" * 300, headers=key).status_code == 201
    first, second = start(400), start(300)
    assert (first.status_code, second.status_code, start(1).status_code) == (201, 201, 429)
    assert start(1000, other).status_code == 201
    assert http.put("/v1/files?purpose=model", data=b"x", headers=key).status_code == 429
    assert http.delete(second.headers["Location"], headers={**TUS, **key}).status_code == 204
    sent = {**TUS, **key, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    assert http.patch(first.headers["Location"], data=b"u" * 400, headers=sent).status_code == 204
    assert http.get(first.headers["Location"], headers=key).get_json()["file"] is not None
    assert (start(301).status_code, start(300).status_code) == (429, 201)
    store.close()
