"""Bytes on disk and in a bucket: one test body for both; the bucket is a real server that speaks S3."""

from __future__ import annotations

import dataclasses
import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from service import files
from service.app import create_app
from service.settings import Settings
from service.storage import Storage, storage_of
from service.store import Store
from service.worker import run_job

from .conftest import plan, submit, wait_for


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URL of an empty bucket on a server of our own."""
    boto3 = pytest.importorskip("boto3", reason="no S3 client (pip install secateur[s3])")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    names = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    names |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    boto3.client("s3").create_bucket(Bucket="secateur")
    yield "s3://secateur"
    server.stop()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(params=["disk", "s3"])
def stored(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """Settings with each storage."""
    if request.param == "disk":
        return settings
    return dataclasses.replace(settings, storage_url=f"{request.getfixturevalue('bucket')}/{secrets.token_hex(4)}")


@pytest.fixture
def storage(stored: Settings) -> Storage:
    """An empty storage."""
    stored.data_dir.mkdir(parents=True, exist_ok=True)
    return storage_of(stored)


def put(storage: Storage, folder: Path, key: str, data: bytes) -> None:
    """Keep bytes under a key."""
    path = folder / "new"
    path.write_bytes(data)
    storage.adopt(path, key)
    assert not path.exists()


def test_what_is_kept_comes_back(storage: Storage, tmp_path: Path) -> None:
    """Whole, in parts, and as a copy; a replaced key has the new bytes, a removed one is gone, twice is no error."""
    data = bytes(range(256)) * 10_000
    put(storage, tmp_path, "blobs/ab/abc", b"old")
    put(storage, tmp_path, "blobs/ab/abc", data)
    with storage.open("blobs/ab/abc") as file:
        assert file.read(10) == data[:10]
        file.seek(2_000_000)
        assert file.read(300) == data[2_000_000:2_000_300]
        file.seek(0)
        assert file.read() == data
    storage.fetch("blobs/ab/abc", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data
    for _ in range(2):
        storage.remove("blobs/ab/abc")
    with pytest.raises(FileNotFoundError):
        storage.open("blobs/ab/abc")
    with pytest.raises(FileNotFoundError):
        storage.fetch("blobs/ab/abc", tmp_path / "copy")


def test_keys_are_those_of_one_folder(storage: Storage, tmp_path: Path) -> None:
    """A folder whose name only begins the same is not listed."""
    for key in ("units/job_1/a", "units/job_1/b", "units/job_11/c"):
        put(storage, tmp_path, key, b"x")
    assert list(storage.keys("units/job_1/")) == ["units/job_1/a", "units/job_1/b"]
    assert list(storage.keys("units/none/")) == []


def test_a_job_from_upload_to_download(stored: Settings) -> None:
    """The same requests give the same answers on both; a range is a range, and deleting leaves only what is uploaded."""
    app = create_app(stored)
    http = app.test_client()
    assert http.get("/readyz").get_json()["checks"]["storage"]
    job = submit(http)
    assert run_job(stored, job["id"], lambda: False) == "succeeded"
    files = http.get(job["urls"]["artifacts"]).get_json()["data"]
    best = next(file for file in files if file["name"] == "best.onnx")
    whole = http.get(best["url"])
    assert (whole.data, whole.content_length) == (b"best of " + plan(), best["bytes"])
    assert http.get(best["url"], headers={"Range": "bytes=3-7"}).data == whole.data[3:8]
    assert http.get(job["urls"]["front"]).status_code == 200
    assert http.delete(job["urls"]["self"]).status_code == 204
    storage = storage_of(stored)
    assert len(list(storage.keys("blobs/"))) == 1
    assert list(storage.keys("units/")) == []


def test_another_machine_goes_on_from_the_bucket(bucket: str, settings: Settings, tmp_path: Path) -> None:
    """Workers that share only rows and bucket: the second does only what the first had not finished."""
    url = f"sqlite:///{tmp_path / 'rows.db'}"
    first = dataclasses.replace(settings, storage_url=f"{bucket}/machines", database_url=url)
    second = dataclasses.replace(first, data_dir=tmp_path / "elsewhere")
    http = create_app(first).test_client()
    job = submit(http, plan(units=20, wait_at=8))
    stop = threading.Event()
    worker = threading.Thread(target=run_job, args=(first, job["id"], stop.is_set))
    worker.start()
    wait_for(lambda: http.get(job["urls"]["self"]).get_json()["progress"]["fraction"] > 0.2)
    stop.set()
    worker.join(30)
    assert http.get(job["urls"]["self"]).get_json()["status"] == "queued"
    assert run_job(second, job["id"], lambda: False) == "succeeded"
    assert report(http, job)["warnings"] == ["2 processes"]
    assert list(storage_of(first).keys("units/")) == []


def report(http: FlaskClient, job: dict[str, Any]) -> dict[str, Any]:
    """The report of a job."""
    found: dict[str, Any] = http.get(f"{job['urls']['artifacts']}/report.json").get_json()
    return found


def test_uploads_and_deletions_at_once_lose_no_bytes(settings: Settings) -> None:
    """While one client deletes jobs, others upload the very bytes that the jobs gave: what is listed can be read."""
    app = create_app(settings)
    jobs = [submit(app.test_client(), plan(nr=i)) for i in range(6)]
    for job in jobs:
        run_job(settings, job["id"], lambda: False)
    data = [b"best of " + plan(nr=i) for i in range(6)]
    ids: list[str] = []

    def send() -> None:
        http = app.test_client()
        for one in data:
            ids.append(http.put("/v1/files?purpose=dataset", data=one).get_json()["id"])

    def delete() -> None:
        http = app.test_client()
        for job in jobs:
            assert http.delete(job["urls"]["self"]).status_code == 204

    threads = [threading.Thread(target=work) for work in (send, delete, send)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store, storage = Store(settings.database), storage_of(settings)
    for file_id in ids:
        file = files.find(store, file_id, "dataset")
        with storage.open(f"blobs/{file.sha256[:2]}/{file.sha256}") as kept:
            assert kept.read() in data
    store.close()
    assert len(set(ids)) == 6
