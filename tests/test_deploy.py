"""What is deployed fits the schemas of its tools, and what those files say is true of the code."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from service.settings import Settings

DEPLOY = Path(__file__).parents[1] / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def test_compose_fits_its_schema() -> None:
    """The Compose specification's own JSON schema accepts the file."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    run = subprocess.run([*command, str(DEPLOY / "compose.yaml")], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_manifests_fit_their_schema(path: Path) -> None:
    """Kubernetes' own schemas accept every object, unknown fields refused."""
    import kubernetes_validate

    for manifest in yaml.safe_load_all(path.read_text()):
        kubernetes_validate.validate(manifest, "1.31", strict=True)


def test_every_container_is_locked_down() -> None:
    """Not root, no privileges, a read-only root."""
    pods = [
        manifest["spec"]["template"]["spec"]
        for path in MANIFESTS
        for manifest in yaml.safe_load_all(path.read_text())
        if manifest["kind"] == "Deployment"
    ]
    assert len(pods) == 3
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert all(
        compose[name]["read_only"] and "ALL" in compose[name]["cap_drop"] for name in compose if name != "postgres"
    )
    assert "USER 10001" in (DEPLOY / "Dockerfile").read_text()


def test_every_setting_named_exists() -> None:
    """A variable in these files is one that the service reads."""
    known = {f"SECATEUR_{field.name.upper()}" for field in dataclasses.fields(Settings)}
    known |= {"SECATEUR_WEB_WORKERS", "SECATEUR_PROXY_IPS"}  # gunicorn.conf.py's own
    files = [path for path in DEPLOY.rglob("*") if path.is_file()]
    named = {name for path in files for name in re.findall(r"SECATEUR_[A-Z_]*[A-Z]", path.read_text())}
    assert named
    assert named <= known


def test_gunicorn_reads_its_configuration() -> None:
    """The file is what gunicorn accepts, checked by gunicorn itself."""
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "--check-config",
        "-c",
        str(DEPLOY / "gunicorn.conf.py"),
        "flask:Flask",
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
