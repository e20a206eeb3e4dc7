"""POST /v1/profiles: a user's measured rows or a complete profile becomes a target of this installation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

from hwprofiles.registry import load_profile
from hwprofiles.rows import Planned, parse_rows, write_manifest
from service.commands.calibrate import calibrate
from service.settings import Settings
from tests.hwprofiles.test_rows import rows

LIKE = "pixel4-1large-tflite-fp32"


def test_rows_are_fitted_and_kept(http: FlaskClient) -> None:
    """The answer has the held-out error; the target is then listed, and its id is taken."""
    body = {"id": "my-phone", "like": LIKE, "rows": rows(60)}
    made = http.post("/v1/profiles", json=body)
    assert made.status_code == 201, made.get_json()
    assert made.headers["Location"].endswith("/v1/profiles/my-phone")
    assert made.get_json()["held_out_error"]["n"] == 60
    assert http.get("/v1/profiles/my-phone").get_json() == made.get_json()
    assert "my-phone" in [profile["id"] for profile in http.get("/v1/profiles").get_json()["data"]]
    again = http.post("/v1/profiles", json=body)
    assert (again.status_code, again.get_json()["type"]) == (409, "conflict-state")


def test_a_complete_profile_is_kept_as_it_is(http: FlaskClient) -> None:
    """All fields given come back."""
    fields = load_profile("tpu-v5e").to_dict() | {"id": "my-tpu", "batch": 2}
    made = http.post("/v1/profiles", json={"profile": fields})
    assert made.status_code == 201, made.get_json()
    assert made.get_json() == {**fields, "notes": list(fields["notes"]), "sparsity": list(fields["sparsity"])}


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"id": "x", "like": LIKE, "rows": rows(5)}, "at least 20"),
        (
            {"id": "x", "like": LIKE, "rows": [{"network": "a", "latency_ms": "fast", "workloads": []}]},
            "rows.0.latency_ms",
        ),
        ({"id": "x", "like": "no-such-device", "rows": rows(60)}, "no-such-device"),
        ({"id": "x", "rows": rows(60)}, "`like`"),
        ({"profile": load_profile("tpu-v5e").to_dict() | {"id": "x", "dtype": "fp64"}}, "dtype"),
        ({"profile": load_profile("tpu-v5e").to_dict()}, "already"),
    ],
    ids=["few", "wrong type", "unknown like", "no like", "bad field", "taken"],
)
def test_what_does_not_fit_is_refused_with_its_reason(http: FlaskClient, body: dict[str, Any], detail: str) -> None:
    """Too few rows, a wrong field, an unknown base and a taken id each name the fault."""
    refused = http.post("/v1/profiles", json=body)
    assert refused.status_code == 409
    assert detail in refused.get_json()["detail"]


def test_the_command_line_fits_measured_rows(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`calibrate --import` keeps the profile among the user's and says its error; without --like it says what is missing."""
    for name, value in settings.to_env().items():
        monkeypatch.setenv(name, value)
    given = parse_rows(rows(40))
    write_manifest(tmp_path / "manifest.json", [Planned(row.network, row.family, row.workloads) for row in given])
    table = tmp_path / "results.csv"
    table.write_text("network,latency_ms\n" + "".join(f"{row.network},{row.latency_ms!r}\n" for row in given))
    run = CliRunner().invoke(calibrate, ["--import", str(table), "--id", "my-phone", "--like", LIKE])
    assert run.exit_code == 0, run.output
    assert load_profile("my-phone", settings.profile_dirs).provenance == "measured by a user"
    refused = CliRunner().invoke(calibrate, ["--import", str(table), "--id", "my-phone"])
    assert (refused.exit_code, "--like" in refused.output) == (2, True)
