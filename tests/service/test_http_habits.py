"""Habits of clients: compressed or oddly coded bodies, a spec sent as a file, ranges, broken cursors, keys in any order."""

from __future__ import annotations

import gzip
import io
import json
import re
from typing import Any

import flask
import pytest
from flask.testing import FlaskClient

from search.wire.errors import DeadlineExceeded, InternalError, InvalidModel
from service.settings import Settings
from service.worker import run_job

from .conftest import PROFILE, plan, submit, upload
from .test_tus import MODEL, TUS

SPEC: dict[str, Any] = {"profiles": [PROFILE]}


@pytest.mark.parametrize("coding", ["gzip", "br", "GZIP, identity"])
def test_compressed_bodies_are_not_taken(http: FlaskClient, coding: str) -> None:
    """Not stored as the model, not parsed as text: 415, and the answer says what would be taken."""
    headers = {"Content-Encoding": coding}
    form = {"model": (io.BytesIO(plan()), "m"), "spec": json.dumps(SPEC)}
    answers = (
        http.put("/v1/files?purpose=model", data=gzip.compress(plan()), headers=headers),
        http.post("/v1/jobs", data=gzip.compress(b"{}"), headers={**headers, "Content-Type": "application/json"}),
        http.post("/v1/jobs", data=form, headers=headers),
    )
    for answer in answers:
        assert (answer.status_code, answer.headers["Accept-Encoding"]) == (415, "identity")
        assert answer.content_type == "application/problem+json"
    assert http.put("/v1/files?purpose=model", data=plan(), headers={"Content-Encoding": "identity"}).status_code == 201


@pytest.mark.parametrize("coding", ["utf-16", "utf-32", "latin-1", "utf-8-sig"])
def test_json_is_utf8(http: FlaskClient, coding: str) -> None:
    """RFC 8259 knows no other encoding between systems, and no byte order mark."""
    text = json.dumps({**SPEC, "metadata": {"a": "é"}}, ensure_ascii=False)
    body = text.replace("{", f'{{"model": "{upload(http, plan())}", ', 1).encode(coding)
    answer = http.post("/v1/jobs", data=body, content_type="application/json")
    assert (answer.status_code, answer.get_json()["type"]) == (422, "validation-error")
    assert http.post("/v1/jobs", data=body.decode(coding).encode(), content_type="application/json").status_code == 202


def test_a_spec_may_be_a_file(http: FlaskClient) -> None:
    """`-F spec=@spec.json` is what the text is; twice is once too often, and a huge one is none."""
    spec = (io.BytesIO(json.dumps(SPEC).encode()), "spec.json", "application/json")
    answer = http.post("/v1/jobs", data={"model": (io.BytesIO(plan()), "m.onnx"), "spec": spec})
    assert (answer.status_code, answer.get_json()["profiles"]) == (202, [PROFILE])
    assert answer.get_json()["model"]["name"] == "m.onnx"
    wrong = (io.BytesIO(b"{'profiles'}"), "spec.json")
    answer = http.post("/v1/jobs", data={"model": (io.BytesIO(plan()), "m"), "spec": wrong})
    assert (answer.status_code, "the part `spec` is not JSON" in answer.get_json()["detail"]) == (422, True)
    huge = (io.BytesIO(b" " * (2**20 + 1)), "spec.json")
    answer = http.post("/v1/jobs", data={"model": (io.BytesIO(plan()), "m"), "spec": huge})
    assert (answer.status_code, answer.get_json()["type"]) == (413, "too-large")


@pytest.mark.parametrize("cursor", ["bm9uc2Vuc2U=", "abc", "W10=", "WzEsMl0", "WyJ4IiwgMV0=", "bnVsbA=="])
def test_a_broken_cursor_is_not_valid(http: FlaskClient, cursor: str) -> None:
    """It is the request that does not fit; no page is missing."""
    answer = http.get("/v1/jobs", query_string={"cursor": cursor})
    assert (answer.status_code, answer.get_json()["type"]) == (422, "validation-error")


def test_the_order_of_keys_makes_no_other_request(http: FlaskClient) -> None:
    """The same members in another order are the same body for an idempotency key; other values are not."""
    body: dict[str, Any] = {
        "model": upload(http, plan()),
        **SPEC,
        "model_data": {"a": upload(http, b"a", "model_data"), "b": upload(http, b"b", "model_data")},
        "metadata": {"a": "1", "b": "2"},
        "search": {"points": 4, "seed": 1},
    }
    turned = {
        key: dict(reversed(list(value.items()))) if isinstance(value, dict) else value for key, value in body.items()
    }
    turned = dict(reversed(list(turned.items())))
    assert json.dumps(turned) != json.dumps(body)
    ids = {http.post("/v1/jobs", json=one, headers={"Idempotency-Key": "k"}).get_json()["id"] for one in (body, turned)}
    assert len(ids) == 1
    other = {**body, "metadata": {"a": "2", "b": "1"}}
    assert http.post("/v1/jobs", json=other, headers={"Idempotency-Key": "k"}).status_code == 422
    other = {**body, "model_data": {"a": body["model_data"]["b"], "b": body["model_data"]["a"]}}
    assert http.post("/v1/jobs", json=other, headers={"Idempotency-Key": "k"}).status_code == 422


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        *((text, 200) for text in ("bytes=5-2", "bytes=a-b", "lines=1-2", "bytes=0-1,3-4", "bytes", "bytes=", "0-5")),
        ("bytes=3-7", 206),
        ("bytes=-4", 206),
        ("bytes=5-", 206),
        ("bytes=999999-", 416),
    ],
)
def test_odd_ranges_are_ignored(http: FlaskClient, settings: Settings, wanted: str, status: int) -> None:
    """What is no range that is served gets the whole file (RFC 9110, 14.2); only one outside the file is refused."""
    job = submit(http)
    run_job(settings, job["id"], lambda: False)
    address = f"{job['urls']['artifacts']}/best.onnx"
    whole = http.get(address).data
    answer = http.get(address, headers={"Range": wanted})
    assert answer.status_code == status
    if status == 200:
        assert answer.data == whole
    head = http.head(address, headers={"Range": wanted})  # of a HEAD a range means nothing
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(whole)))


@pytest.mark.parametrize(
    ("problem", "status"),
    [
        (InvalidModel("node `x` is odd", node="x").to_dict(), 422),
        (DeadlineExceeded("late").to_dict(), 503),
        (InternalError("ours").to_dict(), 500),
        ({"type": "of-tomorrow", "title": "t", "detail": "d", "retryable": False}, 422),
    ],
)
def test_the_error_of_a_job_is_a_problem(
    http: FlaskClient, settings: Settings, problem: dict[str, Any], status: int
) -> None:
    """The same object as an answer: with a status, and the id of the request that made the job."""
    answer = http.post(
        "/v1/jobs", json={"model": upload(http, plan(refuse=problem)), **SPEC}, headers={"X-Request-ID": "mine-7"}
    )
    job = answer.get_json()
    run_job(settings, job["id"], lambda: False)
    error = http.get(job["urls"]["self"]).get_json()["error"]
    assert error == {**problem, "status": status, "request_id": "mine-7"}


def test_a_model_that_nothing_can_run_fails_at_once(http: FlaskClient, settings: Settings) -> None:
    """What the engine refuses, a network without outputs for example, is shown in its words by job and dry run alike."""
    problem = InvalidModel("the network has no outputs; export it with at least one").to_dict()
    job = submit(http, plan(refuse=problem))
    assert run_job(settings, job["id"], lambda: False) == "failed"
    shown = http.get(job["urls"]["self"]).get_json()
    assert (shown["attempt"], shown["error"]["detail"]) == (1, problem["detail"])
    looked = http.post("/v1/inspect", json={"model": upload(http, plan(refuse=problem)), **SPEC})
    assert (looked.status_code, looked.get_json()["detail"]) == (409, problem["detail"])


def test_text_is_compressed_for_whoever_takes_it(http: FlaskClient, settings: Settings) -> None:
    """Lists, the document, fronts and pages; the same text either way, and each way has its own tag."""
    job = submit(http)
    run_job(settings, job["id"], lambda: False)
    for address in ("/v1/profiles", "/openapi.json", job["urls"]["self"], job["urls"]["front"], "/", "/static/form.js"):
        plain = http.get(address)
        coded = http.get(address, headers={"Accept-Encoding": "gzip"})
        assert "Content-Encoding" not in plain.headers
        assert coded.headers["Content-Encoding"] == "gzip", address
        assert gzip.decompress(coded.data) == plain.data
        assert len(coded.data) < len(plain.data) / 2
        assert "Accept-Encoding" in plain.headers["Vary"]
        assert "Accept-Encoding" in coded.headers["Vary"]
        refused = http.get(address, headers={"Accept-Encoding": "gzip;q=0, br"})
        assert "Content-Encoding" not in refused.headers
        if "ETag" in plain.headers:
            assert plain.headers["ETag"] != coded.headers["ETag"]
            for answer, taken in ((plain, {}), (coded, {"Accept-Encoding": "gzip"})):
                again = http.get(address, headers={"If-None-Match": answer.headers["ETag"], **taken})
                assert (again.status_code, again.headers["ETag"]) == (304, answer.headers["ETag"])


def test_files_of_jobs_and_short_answers_are_not(http: FlaskClient, settings: Settings) -> None:
    """A file's tag is its digest and parts of it are served; a short text would only grow."""
    job = submit(http)
    run_job(settings, job["id"], lambda: False)
    for address in (f"{job['urls']['artifacts']}/report.json", "/livez"):
        assert "Content-Encoding" not in http.get(address, headers={"Accept-Encoding": "gzip"}).headers


def test_the_pages_files_may_be_kept(http: FlaskClient) -> None:
    """Their addresses change with their contents; the page that names them is asked for again each time."""
    page = http.get("/")
    assert page.headers["Cache-Control"] == "no-cache"
    assert http.get("/", headers={"If-None-Match": page.headers["ETag"]}).status_code == 304
    addresses = re.findall(r'(?:src|href)="(static/[^"]+)"', page.text)
    assert len(addresses) >= 3
    for address in addresses:
        answer = http.get(f"/{address}")
        assert (answer.status_code, "immutable" in answer.headers["Cache-Control"]) == (200, True)
        release = address.split("/")[1]
        old = http.get(f"/{address.replace(release, '0' * 12)}")  # a page of another release is still open
        assert (old.data, "immutable" in old.headers["Cache-Control"]) == (answer.data, False)
    assert http.get("/static/000000000000/../app.py").status_code == 404


def test_every_get_answers_head(app: flask.Flask, http: FlaskClient, settings: Settings) -> None:
    """With the status and the headers of GET, and no body."""
    job = submit(http)
    run_job(settings, job["id"], lambda: False)
    begun = http.post("/v1/uploads", headers={**TUS, **MODEL, "Upload-Length": "6"}).headers["Location"]
    values = {"job_id": job["id"], "name": "report.json", "profile_id": PROFILE, "upload_id": begun.split("/")[-1]}
    values |= {"filename": "app.js", "release": "0"}
    tried = 0
    for rule in app.url_map.iter_rules():
        if "GET" not in (rule.methods or ()):
            continue
        path = re.sub(r"<(?:path:)?(\w+)>", lambda found: values[found[1]], rule.rule)
        path = path.replace("report.json", "app.js") if path.startswith("/static") else path
        got, head = http.get(path), http.head(path)
        assert (head.status_code, head.data) == (got.status_code, b""), path
        moving = {"X-Request-ID", "Date", *({"Content-Length"} if path == "/metrics" else ())}
        assert {k: v for k, v in head.headers if k not in moving} == {k: v for k, v in got.headers if k not in moving}
        tried += 1
    assert tried >= 15
