"""The HTTP contract where generated requests do not reach: meaning, headers, files."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import uuid
from typing import Any

import flask
import pytest
from flask.testing import FlaskClient

from service.settings import Settings
from service.worker import run_job

from .conftest import PROFILE, plan, submit, upload


def finish(http: FlaskClient, settings: Settings, data: bytes | None = None) -> dict[str, Any]:
    """Submit a job and run it here; its JSON."""
    job = submit(http, data)
    run_job(settings, job["id"], lambda: False)
    done: dict[str, Any] = http.get(job["urls"]["self"]).get_json()
    return done


def test_a_file_uploaded_twice_is_one_file(http: FlaskClient) -> None:
    """Form and raw upload of the same bytes give one id, and the digest is that of the bytes."""
    form = {"file": (io.BytesIO(b"abc"), "../../etc/passwd"), "purpose": "model"}
    first = http.post("/v1/files", data=form)
    again = http.put("/v1/files?purpose=model&filename=x", data=b"abc")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.get_json() == {**again.get_json(), "name": "passwd"}
    assert again.get_json()["name"] == "x"
    assert first.get_json()["sha256"] == hashlib.sha256(b"abc").hexdigest()
    assert first.get_json()["bytes"] == 3


def test_uploads_are_capped_and_leave_nothing(settings: Settings) -> None:
    """One byte above the limit is refused, and no partial file stays."""
    import dataclasses

    from service.app import create_app

    http = create_app(dataclasses.replace(settings, max_upload_bytes=1000)).test_client()
    assert http.put("/v1/files?purpose=model", data=b"x" * 1000).status_code == 201
    for answer in (
        http.put("/v1/files?purpose=model", data=b"x" * 1001),
        http.post("/v1/files", data={"file": (io.BytesIO(b"x" * 1001), "m"), "purpose": "model"}),
    ):
        assert answer.status_code == 413
        assert answer.get_json()["type"] == "too-large"
    assert list((settings.data_dir / "incoming").iterdir()) == []


def test_a_large_upload_is_read_whole(http: FlaskClient, settings: Settings) -> None:
    """An upload above the limit of other requests arrives byte for byte."""
    data = bytes(range(256)) * 20_000
    answer = http.put("/v1/files?purpose=dataset", data=data)
    sha256 = hashlib.sha256(data).hexdigest()
    assert answer.get_json()["sha256"] == sha256
    assert (settings.data_dir / "blobs" / sha256[:2] / sha256).read_bytes() == data


def test_one_request_starts_a_job(http: FlaskClient) -> None:
    """Three form parts are enough, and the answer says where the job is and when to ask again."""
    spec = json.dumps({"profiles": [PROFILE], "objective": {"speedup": 2}, "metadata": {"team": "camera"}})
    form = {"model": (io.BytesIO(b"m"), "m.onnx"), "dataset": (io.BytesIO(b"d"), "d.npz"), "spec": spec}
    answer = http.post("/v1/jobs", data=form)
    assert answer.status_code == 202
    assert answer.headers["Location"] == answer.get_json()["urls"]["self"] == f"/v1/jobs/{answer.get_json()['id']}"
    assert answer.headers["Retry-After"] == "1"
    job = http.get(answer.headers["Location"]).get_json()
    assert (job["status"], job["queue_position"], job["metadata"]) == ("queued", 0, {"team": "camera"})
    assert job["objective"] == {"max_latency_ms": None, "speedup": 2.0, "max_accuracy_drop": None}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"surprise": 1}, "surprise"),
        ({"search": {"points": True}}, "search.points"),
        ({"search": {"points": 99}}, "search.points"),
        ({"search": {"points": "8"}}, "search.points"),
        ({"objective": {"speedup": 2, "max_latency_ms": 1}}, "speedup"),
        ({"profiles": []}, "profiles"),
        ({"profiles": [PROFILE, PROFILE]}, "twice"),
        ({"constraints": {"structures": ["magic"]}}, "structures"),
        ({"model": "../../etc/passwd"}, "model"),
    ],
)
def test_a_wrong_field_is_named(http: FlaskClient, change: dict[str, Any], field: str) -> None:
    """Each is a 422 whose detail names the field."""
    answer = http.post("/v1/jobs", json={"model": upload(http, b"m"), "profiles": [PROFILE], **change})
    assert answer.status_code == 422
    assert answer.get_json()["type"] == "validation-error"
    assert field in answer.get_json()["detail"] + json.dumps(answer.get_json()["errors"])


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (f'{{"profile": "{PROFILE}"}}', ("`profile`: there is no such field here", "`profiles`: Field required")),
        (f"{{'profiles': ['{PROFILE}']}}", ("the part `spec` is not JSON", "double quotes")),
        (
            f'{{"profiles": ["{PROFILE}"], "objective": {{"speedup": 2, "max_latency_ms": 3}}}}',
            ("the part `spec` does not fit: `objective`: objective has max_latency_ms and speedup; give only one",),
        ),
    ],
)
def test_one_sentence_says_what_is_wrong_with_a_form(http: FlaskClient, spec: str, told: tuple[str, ...]) -> None:
    """The detail alone, which is what curl and the page show, names the part, every wrong field and the cure."""
    answer = http.post("/v1/jobs", data={"model": (io.BytesIO(b"abc"), "m"), "spec": spec})
    assert answer.status_code == 422
    assert all(words in answer.get_json()["detail"] for words in told), answer.get_json()


@pytest.mark.parametrize("number", ["0.0", "1_0", "+1", " 1", "-1", "1e1"])
def test_a_number_in_a_query_is_digits(http: FlaskClient, number: str) -> None:
    """What the document calls an integer is one; what a lenient parser would make of other words does not matter."""
    answer = http.get("/v1/jobs", query_string={"limit": number})
    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["field"] == "limit"
    parameters = http.get("/openapi.json").get_json()["paths"]["/v1/jobs"]["get"]["parameters"]
    [limit] = [one["schema"] for one in parameters if one["name"] == "limit"]
    assert (limit["type"], limit["minimum"], limit["maximum"]) == ("integer", 1, 100)


def test_an_unknown_profile_is_refused_at_submission(http: FlaskClient) -> None:
    """The refusal lists the targets there are."""
    body = {"model": upload(http, b"m"), "profiles": ["no-such-device"]}
    for path in ("/v1/jobs", "/v1/inspect"):
        answer = http.post(path, json=body)
        assert answer.status_code == 422
        assert "no-such-device" in answer.get_json()["detail"]
        assert PROFILE in answer.get_json()["known"]


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("GET", "/v1/jobs/job_none", 404, "not-found"),
        ("GET", "/v1/profiles/none", 404, "not-found"),
        ("PATCH", "/v1/jobs", 405, "validation-error"),
        ("POST", "/v1/jobs", 415, "validation-error"),
        ("GET", "/v1/jobs?limit=0", 422, "validation-error"),
        ("GET", "/v1/jobs?surprise=1", 422, "validation-error"),
        ("GET", "/v1/jobs?limit=1&limit=2", 422, "validation-error"),
    ],
)
def test_every_error_is_a_problem(http: FlaskClient, method: str, path: str, status: int, kind: str) -> None:
    """Ours and the framework's have one shape, with a stable type and the request's id."""
    answer = http.open(path, method=method, data=b"x", headers={"X-Request-ID": "mine-1"})
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    assert answer.get_json()["type"] == kind
    assert answer.get_json()["status"] == status
    assert answer.get_json()["request_id"] == answer.headers["X-Request-ID"] == "mine-1"
    if status == 405:
        assert "POST" in answer.headers["Allow"]


def test_a_fault_of_ours_is_a_problem_without_a_traceback(app: flask.Flask, http: FlaskClient) -> None:
    """What broke is in the log; the client gets an id to report."""

    def broken() -> str:
        raise RuntimeError("secret path /etc/shadow")

    app.add_url_rule("/broken", view_func=broken)
    answer = http.get("/broken")
    assert answer.status_code == 500
    assert answer.get_json()["type"] == "internal"
    assert "shadow" not in answer.text


def test_another_host_name_is_refused(http: FlaskClient) -> None:
    """A page elsewhere that points its own name at this machine gets nothing."""
    answer = http.get("/v1/jobs", headers={"Host": "evil.example"})
    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"


def test_the_same_key_is_the_same_job(http: FlaskClient) -> None:
    """A repeated request finds the first one's job; another body is refused; without a key every request is a job."""
    body = {"model": upload(http, b"m"), "profiles": [PROFILE]}
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    ids = {http.post("/v1/jobs", json=body, headers=headers).get_json()["id"] for _ in range(3)}
    assert len(ids) == 1
    answer = http.post("/v1/jobs", json={**body, "search": {"seed": 1}}, headers=headers)
    assert answer.status_code == 422
    assert answer.get_json()["type"] == "idempotency-conflict"
    assert http.post("/v1/jobs", json=body).get_json()["id"] not in ids


def test_an_unchanged_job_is_304(http: FlaskClient, settings: Settings) -> None:
    """The tag stays while the job does, and changes with it."""
    job = submit(http)
    first = http.get(job["urls"]["self"])
    assert first.headers["Retry-After"] == "1"
    tag = {"If-None-Match": first.headers["ETag"]}
    assert not first.headers["ETag"].startswith("W/")
    assert http.get(job["urls"]["self"], headers=tag).status_code == 304
    run_job(settings, job["id"], lambda: False)
    after = http.get(job["urls"]["self"], headers=tag)
    assert after.status_code == 200
    assert "Retry-After" not in after.headers


def test_jobs_are_listed_page_by_page(http: FlaskClient) -> None:
    """Following `next_cursor` meets every job once, newest first."""
    made = [submit(http)["id"] for _ in range(5)]
    seen, cursor = [], ""
    while True:
        page = http.get(f"/v1/jobs?limit=2{cursor}").get_json()
        seen += [job["id"] for job in page["data"]]
        if not page["has_more"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == made[::-1]
    assert page["next_cursor"] is None


def test_results_of_a_finished_job(http: FlaskClient, settings: Settings) -> None:
    """Front, files and best point are those that the child left."""
    job = finish(http, settings)
    assert (job["status"], job["progress"]["fraction"], job["error"]) == ("succeeded", 1.0, None)
    assert (job["best"]["id"], job["warnings"]) == ("p1", ["=quick child"])
    front = http.get(job["urls"]["front"]).get_json()
    assert [point["id"] for point in front[PROFILE]["points"]] == ["p1", "p2"]
    table = http.get(job["urls"]["front"], headers={"Accept": "text/csv"}).text.splitlines()
    assert len(table) == 1 + 3
    names = {row["name"] for row in http.get(job["urls"]["artifacts"]).get_json()["data"]}
    assert names == {"best.onnx", "front.svg", "report.html", "report.json", f"points/{PROFILE}/p1.onnx"}


def test_a_download_is_checked_resumed_and_harmless(http: FlaskClient, settings: Settings) -> None:
    """Digest, range and conditional headers fit the bytes; a browser saves the file and does not run it."""
    job = finish(http, settings)
    rows = http.get(job["urls"]["artifacts"]).get_json()["data"]
    for row in rows:
        answer = http.get(row["url"])
        digest = hashlib.sha256(answer.data)
        assert digest.hexdigest() == row["sha256"]
        assert len(answer.data) == row["bytes"]
        assert answer.headers["ETag"] == f'"{row["sha256"]}"'
        assert answer.headers["Repr-Digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
        assert answer.headers["Content-Disposition"].startswith("attachment")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        part = http.get(row["url"], headers={"Range": "bytes=3-7", "If-Range": answer.headers["ETag"]})
        assert (part.status_code, part.data) == (206, answer.data[3:8])
        assert http.get(row["url"], headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    beyond = http.get(row["url"], headers={"Range": "bytes=999999-"})
    assert beyond.status_code == 416
    assert beyond.content_type == "application/problem+json"


@pytest.mark.parametrize("name", ["../../../../etc/passwd", "..%2f..%2fsecateur.db", "/etc/passwd", "none", "points"])
def test_a_name_is_no_path(http: FlaskClient, settings: Settings, name: str) -> None:
    """Only names that the rows list are answered."""
    job = finish(http, settings)
    assert http.get(f"{job['urls']['artifacts']}/{name}").status_code in {404, 308}


def test_events_as_json_and_as_a_stream(http: FlaskClient, settings: Settings) -> None:
    """Both say the same; the stream goes on after the last event that the client has, and ends with the job."""
    job = finish(http, settings)
    page = http.get(job["urls"]["events"]).get_json()
    assert [event["seq"] for event in page["data"]] == list(range(1, len(page["data"]) + 1))
    assert page["data"][-1]["status"] == "succeeded"
    assert http.get(job["urls"]["events"] + "?after=3&limit=1").get_json()["data"] == page["data"][3:4]
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "2"}
    answer = http.get(job["urls"]["events"], headers=headers)
    assert answer.mimetype == "text/event-stream"
    blocks = [block.split("\n") for block in answer.text.strip().split("\n\n")]
    streamed = [
        json.loads(line.removeprefix("data: ")) for block in blocks for line in block if line.startswith("data: ")
    ]
    assert streamed == page["data"][2:]
    last = {**headers, "Last-Event-ID": str(len(page["data"]))}
    assert http.get(job["urls"]["events"], headers=last).status_code == 204


def test_cancel_and_delete(http: FlaskClient, settings: Settings) -> None:
    """Cancelling twice is no error, cancelling what has finished is; only finished jobs are deleted, with their files."""
    job = submit(http)
    assert http.delete(job["urls"]["self"]).status_code == 409
    assert http.post(job["urls"]["cancel"]).status_code == 202
    assert http.post(job["urls"]["cancel"]).status_code == 200
    assert run_job(settings, job["id"], lambda: False) is None
    done = finish(http, settings)
    refused = http.post(done["urls"]["cancel"])
    assert (refused.status_code, refused.get_json()["type"]) == (409, "conflict-state")
    blobs = {path.name for path in (settings.data_dir / "blobs").rglob("*") if path.is_file()}
    artifacts = {row["sha256"] for row in http.get(done["urls"]["artifacts"]).get_json()["data"]}
    assert http.delete(done["urls"]["self"]).status_code == 204
    assert http.get(done["urls"]["self"]).status_code == 404
    left = {path.name for path in (settings.data_dir / "blobs").rglob("*") if path.is_file()}
    assert left == blobs - artifacts


def test_no_front_yet(http: FlaskClient) -> None:
    """A job that has not finished has no front: 409 with its state."""
    job = submit(http)
    answer = http.get(job["urls"]["front"])
    assert (answer.status_code, answer.get_json()["job_status"]) == (409, "queued")


def test_profiles(http: FlaskClient) -> None:
    """Every listed profile can be had whole, and both answers are conditional."""
    listed = http.get("/v1/profiles")
    assert PROFILE in {profile["id"] for profile in listed.get_json()["data"]}
    assert http.get("/v1/profiles", headers={"If-None-Match": listed.headers["ETag"]}).status_code == 304
    for profile in listed.get_json()["data"]:
        whole = http.get(f"/v1/profiles/{profile['id']}")
        assert whole.get_json()["channel_grid"] == profile["channel_grid"]
        assert whole.get_json()["latency"]["kind"] == profile["latency_kind"]


def test_inspect(http: FlaskClient) -> None:
    """A dry run answers for every target; a model that cannot be read is refused in the engine's words."""
    good = http.post("/v1/inspect", json={"model": upload(http, plan()), "profiles": [PROFILE]})
    assert good.status_code == 200
    assert good.get_json()["profiles"][PROFILE]["reachable_ms"] == {"min": 1.0, "max": 2.0}
    problem = {"type": "unsupported-operator", "title": "t", "detail": "node `x`", "retryable": False, "node": "x"}
    bad = http.post("/v1/inspect", json={"model": upload(http, plan(refuse=problem)), "profiles": [PROFILE]})
    assert (bad.status_code, bad.get_json()["type"], bad.get_json()["node"]) == (409, "unsupported-operator", "x")


def test_an_endless_dry_run_is_ended(settings: Settings) -> None:
    """It takes no longer than its limit, and the answer names it."""
    import dataclasses

    from service.app import create_app

    http = create_app(dataclasses.replace(settings, inspect_timeout_s=0.5)).test_client()
    answer = http.post("/v1/inspect", json={"model": upload(http, plan(unit_s=60)), "profiles": [PROFILE]})
    assert (answer.status_code, answer.get_json()["type"]) == (422, "resource-limit")


def test_health_and_pages(http: FlaskClient) -> None:
    """Alive, ready with what holds around a job, and the page allows no foreign script."""
    assert http.get("/livez").get_json() == {"status": "ok"}
    ready = http.get("/readyz")
    assert ready.get_json()["checks"] == {"database": True, "broker": True, "storage": True}
    assert set(ready.get_json()["sandbox"]) >= {"no_network", "resource_limits"}
    page = http.get("/")
    assert page.status_code == 200
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy


def test_the_document_lists_every_route(app: flask.Flask, http: FlaskClient) -> None:
    """What is routed under /v1 is documented, and the other way round."""
    document = http.get("/openapi.json").get_json()
    assert document["openapi"].startswith("3.1")
    documented = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    routed = {
        (method, rule.rule.replace("<path:", "{").replace("<", "{").replace(">", "}"))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD"}
        if rule.endpoint not in {"static", "asset", "index", "docs"}
        and (method != "OPTIONS" or rule.endpoint == "describeUploads")
    }
    assert documented == routed
