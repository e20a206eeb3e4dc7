"""Targets of a tenant's own: rows that only this tenant sees, kept by its jobs, fitted in a child."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from hwprofiles.device import DeviceProfile
from hwprofiles.registry import load_profile, save_profile
from service import caches
from service.settings import Settings
from service.tables import LOCAL_TENANT
from service.worker import run_job
from tests.hwprofiles.test_rows import rows

from .conftest import PROFILE, plan
from .test_access import Guarded, guarded, upload
from .test_profiles import LIKE


@pytest.fixture
def service(settings: Settings) -> Guarded:
    """Two tenants, each with room for three targets."""
    return guarded(settings, max_profiles=3)


def post(service: Guarded, who: dict[str, str], profile_id: str) -> int:
    """Add a whole profile; the status."""
    fields = load_profile("tpu-v5e").to_dict() | {"id": profile_id}
    return service.http.post("/v1/profiles", json={"profile": fields}, headers=who).status_code


def test_nobody_else_learns_of_it(service: Guarded) -> None:
    """Not from lists, addresses, refusals or the open document; another tenant may use the same id."""
    assert post(service, service.ours, "our-secret") == 201
    body = {"model": upload(service, service.theirs), "profiles": ["our-secret"]}
    asked = [
        service.http.get("/v1/profiles", headers=service.theirs),
        service.http.get("/openapi.json"),
        service.http.get("/openapi.json", headers=service.theirs),
        service.http.get("/openapi.json", headers={"Authorization": "Bearer nonsense"}),
    ]
    assert all((answer.status_code, "our-secret" in answer.text) == (200, False) for answer in asked)
    one = service.http.get("/v1/profiles/our-secret", headers=service.theirs)
    assert (one.status_code, "our-secret" in one.get_json()["known"]) == (404, False)
    for path in ("/v1/jobs", "/v1/inspect"):
        refused = service.http.post(path, json=body, headers=service.theirs)
        assert (refused.status_code, "our-secret" in refused.get_json()["known"]) == (422, False)
    assert service.http.delete("/v1/profiles/our-secret", headers=service.theirs).status_code == 404
    assert "our-secret" in service.http.get("/openapi.json", headers=service.ours).text
    assert post(service, service.theirs, "our-secret") == 201


def test_quota_and_deletion(service: Guarded) -> None:
    """Three are kept; one deleted makes room; what everybody has cannot be deleted or replaced."""
    assert [post(service, service.ours, f"mine-{i}") for i in range(4)] == [201, 201, 201, 429]
    assert post(service, service.ours, "mine-1") == 409
    assert service.http.delete("/v1/profiles/mine-1", headers=service.ours).status_code == 204
    assert service.http.delete("/v1/profiles/mine-1", headers=service.ours).status_code == 404
    assert post(service, service.ours, "mine-4") == 201
    assert service.http.delete(f"/v1/profiles/{PROFILE}", headers=service.ours).status_code == 409
    assert post(service, service.ours, PROFILE) == 409


def test_a_job_keeps_its_targets(service: Guarded) -> None:
    """The worker's child finds the target in its cache, also when it was deleted or changed since."""
    assert post(service, service.ours, "mine") == 201
    body = {"model": upload(service, service.ours, plan(profiles=["mine"])), "profiles": ["mine"]}
    looked = service.http.post("/v1/inspect", json=body, headers=service.ours)
    assert looked.status_code == 200, looked.get_json()
    job = service.http.post("/v1/jobs", json=body, headers=service.ours).get_json()
    assert service.http.delete("/v1/profiles/mine", headers=service.ours).status_code == 204
    assert run_job(service.settings, job["id"], lambda: False) == "succeeded"
    assert not list(service.settings.cache_dir.rglob("mine.toml"))


def test_a_fit_is_a_child_of_its_own(service: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fitted in the web process; what takes too long or does not fit is refused."""
    from hwprofiles import rows as fitting

    monkeypatch.setattr(fitting, "profile_from_rows", None)
    body = {"id": "fitted", "like": LIKE, "rows": rows(60)}
    made = service.http.post("/v1/profiles", json=body, headers=service.ours)
    assert (made.status_code, made.get_json()["held_out_error"]["n"]) == (201, 60)
    hasty = guarded(service.settings, inspect_timeout_s=0.01)
    late = hasty.http.post("/v1/profiles", json={**body, "id": "other"}, headers=hasty.ours)
    assert (late.status_code, late.get_json()["type"]) == (422, "resource-limit")


def test_what_only_a_measurement_here_may_claim_is_not_taken_from_a_client(service: Guarded) -> None:
    """A profile that says of itself that it is this machine, measured here, and right to one per cent."""
    phone = load_profile(LIKE).to_dict()
    claims = {
        "id": "claims",
        "measurable_here": True,
        "provenance": "measured here",
        "held_out_error": {"mape": 0.01, "spearman": 1.0, "n": 99, "log_error_q90": 0.01},
        "anchors_s": [1e-3],
    }
    made = service.http.post("/v1/profiles", json={"profile": phone | claims}, headers=service.ours)
    assert made.status_code == 201, made.get_json()
    kept = service.http.get("/v1/profiles/claims", headers=service.ours).get_json()
    assert (kept["measurable_here"], kept["held_out_error"], kept["anchors_s"]) == (False, None, [])
    assert kept["provenance"] == "measured by a user"
    old = load_profile(LIKE).to_dict() | {"id": "old", "measurable_here": True}
    cache = caches.view(service.settings.cache_dir / "job", service.settings, "a", {"old": old})
    assert not load_profile("old", [cache / "profiles"]).measurable_here


def calibrated(name: str, batch: int) -> DeviceProfile:
    """A profile as a calibration leaves it, told apart by its batch."""
    return dataclasses.replace(load_profile("tpu-v5e"), id=name, batch=batch)


def test_calibrations_stay_with_the_tenant(settings: Settings, tmp_path: Path) -> None:
    """What a child measured is kept for its tenant; it replaces nothing, and no other tenant believes it."""
    own = {"mine": load_profile("tpu-v5e").to_dict() | {"id": "mine"}}
    for tenant in ("a", LOCAL_TENANT):
        directory = tmp_path / tenant
        cache = caches.view(directory, settings, tenant, own)
        assert load_profile("mine", [cache / "profiles"]).id == "mine"
        save_profile(calibrated(PROFILE, 7), cache / "profiles")
        (cache / "profiles" / "nonsense.toml").write_text("id = 1")
        (cache / "profiles" / "tpu-v5e.toml").write_text((cache / "profiles" / "mine.toml").read_text())
        (cache / "measurements" / "m.json").write_text("1")
        caches.keep_calibrations(cache, settings, tenant, own)
        kept = caches.tenant_cache(settings, tenant)
        assert [path.name for path in (kept / "profiles").iterdir()] == [f"{PROFILE}.toml"]
        assert (kept / "measurements" / "m.json").exists()
        save_profile(calibrated(PROFILE, 9), cache / "profiles")
        caches.keep_calibrations(cache, settings, tenant, own)
        assert load_profile(PROFILE, [kept / "profiles"]).batch == 7
        (kept / "profiles" / f"{PROFILE}.toml").write_text("id = 1")  # of another release: measured again
        caches.keep_calibrations(cache, settings, tenant, own)
        assert load_profile(PROFILE, [kept / "profiles"]).batch == 9
    other = caches.view(tmp_path / "b", settings, "b", {})
    assert (other / "profiles" / f"{PROFILE}.toml").exists()  # the keeper's own, of the machine
    assert not list((other / "measurements").iterdir())
