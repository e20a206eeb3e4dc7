"""Keys, tenants and limits: who may do what, how much, and how often."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import flask
import pytest
from flask.testing import FlaskClient

from hwprofiles.registry import load_profile
from service import keys
from service.api.context import Context
from service.api.operations import OPEN_PATHS
from service.app import OPERATIONS, create_app
from service.settings import Settings
from service.store import Store
from service.worker import run_job

from .conftest import PROFILE, plan


@dataclasses.dataclass(frozen=True)
class Guarded:
    """An application that asks for keys, and a client and a key of each of two tenants."""

    app: flask.Flask
    settings: Settings
    store: Store
    ours: dict[str, str]
    theirs: dict[str, str]
    key_id: str

    @property
    def http(self) -> FlaskClient:
        """A client."""
        return self.app.test_client()


def guarded(settings: Settings, **options: Any) -> Guarded:
    """An application over `settings` with keys on."""
    settings = dataclasses.replace(settings, api_keys="on", **options)
    app = create_app(settings)
    context: Context = app.extensions["secateur"]
    row, ours = keys.create(context.store, "ours", "")
    _, theirs = keys.create(context.store, "theirs", "")
    first, second = ({"Authorization": f"Bearer {key}"} for key in (ours, theirs))
    return Guarded(app, settings, context.store, first, second, row.id)


@pytest.fixture
def service(settings: Settings) -> Guarded:
    """Keys on, everything else as in other tests."""
    return guarded(settings)


def upload(service: Guarded, who: dict[str, str], data: bytes = b"") -> str:
    """A model of a tenant."""
    answer = service.http.put("/v1/files?purpose=model", data=data or plan(), headers=who)
    return str(answer.get_json()["id"])


def submit(service: Guarded, who: dict[str, str]) -> dict[str, Any]:
    """A job of a tenant."""
    body = {"model": upload(service, who), "profiles": [PROFILE]}
    job: dict[str, Any] = service.http.post("/v1/jobs", json=body, headers=who).get_json()
    return job


def test_nothing_is_told_without_a_key(service: Guarded) -> None:
    """Every operation but health and the document answers 401, with or without a word that is no key."""
    for operation in OPERATIONS:
        path = operation.path.replace("{", "").replace("}", "")
        for header in ({}, {"Authorization": "Bearer sk_000000000000_" + 43 * "x"}, {"Authorization": "Basic eDp5"}):
            answer = service.http.open(path, method=operation.method, headers=header)
            if operation.path in OPEN_PATHS:
                assert answer.status_code in {200, 503}, path
            else:
                assert (answer.status_code, answer.get_json()["type"]) == (401, "unauthorized"), path
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_revoked_key_is_useless_at_once(service: Guarded) -> None:
    """The request after the revocation is refused."""
    assert service.http.get("/v1/jobs", headers=service.ours).status_code == 200
    keys.revoke(service.store, service.key_id)
    assert service.http.get("/v1/jobs", headers=service.ours).status_code == 401
    assert service.http.get("/v1/jobs", headers=service.theirs).status_code == 200


def test_keys_are_kept_as_digests(service: Guarded) -> None:
    """Whoever reads the table finds no key."""
    secret = service.ours["Authorization"].split("_", 2)[2]
    assert len(secret) == 43
    assert secret not in repr([vars(row) for row in keys.listed(service.store)])


TUS = {"Tus-Resumable": "1.0.0"}
_REQUESTS: dict[str, dict[str, Any]] = {
    "continueUpload": {"headers": {**TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}},
    "deleteUpload": {"headers": TUS},
    "inspect": {"json": {"model": "FILE", "profiles": [PROFILE]}},
    "submitJob": {"json": {"model": "FILE", "profiles": [PROFILE]}},
}
"""What an operation needs so that only the owner is wrong; other operations need nothing."""
_SHARED = {
    *("uploadFile", "putFile", "createUpload", "describeUploads", "listProfiles", "listJobs"),
    *("isAlive", "isReady", "getMetrics", "createProfile"),
}
"""They name nobody's thing."""


def test_another_tenants_things_are_not_found(service: Guarded) -> None:
    """Every operation that names a file, upload, job or result answers another tenant's key like an id that is not there."""
    job = submit(service, service.ours)
    run_job(service.settings, job["id"], lambda: False)
    metadata = {**TUS, "Upload-Length": "9", "Upload-Metadata": "purpose bW9kZWw="}
    begun = service.http.post("/v1/uploads", headers={**service.ours, **metadata})
    names = {
        "job_id": job["id"],
        "name": "report.json",
        "upload_id": begun.headers["Location"].rpartition("/")[2],
        "profile_id": "our-target",
    }
    target = load_profile("tpu-v5e").to_dict() | {"id": "our-target"}
    assert service.http.post("/v1/profiles", json={"profile": target}, headers=service.ours).status_code == 201
    before = snapshot(service, names)
    document = service.http.get("/openapi.json").get_json()
    tried = set()
    for path, item in document["paths"].items():
        for method, described in item.items():
            name = described["operationId"]
            if name in _SHARED or path in OPEN_PATHS:
                continue
            answer = attempt(service, method, path, names, _REQUESTS.get(name, {}))
            absent = {key: value[:-4] + "0000" for key, value in names.items()} | {"name": "report.json"}
            unknown = attempt(service, method, path, absent, _REQUESTS.get(name, {}), file="file_" + 32 * "0")
            assert answer.status_code == unknown.status_code == 404, (name, answer.text)
            assert "our-target" not in answer.text or "our-target" in path.format(**names)
            assert "our-target" not in answer.get_json().get("known", ())
            tried.add(name)
    assert tried >= {"getJob", "cancelJob", "deleteJob", "listEvents", "getFront", "listArtifacts", "getArtifact"}
    assert tried >= {
        "getUpload",
        "continueUpload",
        "deleteUpload",
        "inspect",
        "submitJob",
        "getProfile",
        "deleteProfile",
    }
    assert service.http.get("/v1/jobs", headers=service.theirs).get_json()["data"] == []
    assert snapshot(service, names) == before


def attempt(
    service: Guarded, method: str, path: str, names: dict[str, str], request: dict[str, Any], file: str = ""
) -> Any:
    """A request with the other tenant's key."""
    file = file or upload(service, service.ours)
    options = {**request, "headers": {**request.get("headers", {}), **service.theirs}}
    if "json" in options:
        options["json"] = json.loads(json.dumps(options["json"]).replace("FILE", file))
    return service.http.open(path.format(**names), method=method.upper(), data=options.pop("data", None), **options)


def snapshot(service: Guarded, names: dict[str, str]) -> list[Any]:
    """The owner's things as the owner sees them."""
    job = f"/v1/jobs/{names['job_id']}"
    paths = (job, f"{job}/events", f"{job}/artifacts", f"/v1/uploads/{names['upload_id']}")
    return [service.http.get(path, headers=service.ours).get_json() for path in paths]


def test_the_same_bytes_are_each_tenants_own_file(service: Guarded) -> None:
    """Nobody learns from an id or a status that another tenant has the same file."""
    data = plan(nr=7)
    answers = [
        service.http.put("/v1/files?purpose=model", data=data, headers=who) for who in (service.ours, service.theirs)
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].get_json()["id"] != answers[1].get_json()["id"]


def test_requests_are_limited_with_standard_headers(settings: Settings) -> None:
    """Every answer says what is left; above the limit it is 429 with when to come back; other tenants go on."""
    service = guarded(settings, requests_per_minute=3)
    left = []
    for _ in range(3):
        answer = service.http.get("/v1/jobs", headers=service.ours)
        assert answer.headers["RateLimit-Policy"] == '"tenant";q=3;w=60'
        left.append(answer.headers["RateLimit"].split(";")[1])
    assert left == ["r=2", "r=1", "r=0"]
    refused = service.http.get("/v1/jobs", headers=service.ours)
    assert (refused.status_code, refused.get_json()["type"]) == (429, "rate-limited")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert service.http.get("/v1/jobs", headers=service.theirs).status_code == 200
    assert service.http.get("/livez").status_code == 200


def test_limits_go_on_without_redis(settings: Settings) -> None:
    """While Redis is away each web server counts for itself; nobody is let through for ever, nobody gets a 500."""
    service = guarded(settings, requests_per_minute=2, redis_url="redis://127.0.0.1:1/0")
    statuses = [service.http.get("/v1/jobs", headers=service.ours).status_code for _ in range(4)]
    assert statuses == [200, 200, 429, 429]


def test_quotas_are_answered(settings: Settings) -> None:
    """A tenant with all the jobs and bytes it may have gets 429 quota-exceeded."""
    service = guarded(settings, max_unfinished_jobs=1, max_stored_bytes=60)
    submit(service, service.ours)
    body = {"model": upload(service, service.ours), "profiles": [PROFILE]}
    refused = service.http.post("/v1/jobs", json=body, headers=service.ours)
    assert (refused.status_code, refused.get_json()["type"]) == (429, "quota-exceeded")
    large = service.http.put("/v1/files?purpose=model", data=b"x" * 60, headers=service.ours)
    assert (large.status_code, large.get_json()["type"]) == (429, "quota-exceeded")
    assert not any((settings.data_dir / "incoming").iterdir())


def test_the_document_says_how_to_get_in(service: Guarded, http: FlaskClient) -> None:
    """With keys on, every guarded operation declares the scheme and the refusals; with keys off none does."""
    closed, free = (client.get("/openapi.json").get_json() for client in (service.http, http))
    assert closed["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert "securitySchemes" not in free["components"]
    for path, item in closed["paths"].items():
        for described in item.values():
            assert ("security" in described) == (path not in OPEN_PATHS)
            assert ({"401", "429"} <= described["responses"].keys()) == (path not in OPEN_PATHS)
