"""What is deployed fits the schemas of its tools, and what those files say is true of the code."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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
    files = [path for path in DEPLOY.rglob("*") if path.is_file()]
    named = {name for path in files for name in re.findall(r"SECATEUR_[A-Z_]*[A-Z]", path.read_text())}
    assert named
    assert named <= known


def test_the_image_gets_locked_versions() -> None:
    """The Dockerfile's own command makes constraints of the lock that leave one version a package on each Python."""
    text = (DEPLOY / "Dockerfile").read_text()
    command = re.search(r"&& (.* requirements\.lock) > /tmp/constraints\.txt", text)
    assert command is not None
    run = subprocess.run(["sh", "-c", command[1]], cwd=DEPLOY.parent, capture_output=True, text=True, check=True)
    locked = [Requirement(line) for line in run.stdout.splitlines()]
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [Requirement(one) for one in (*project["dependencies"], *extras["postgres"], *extras["s3"])]
    for python in ("3.11.14", "3.12.12"):
        here = {"python_version": python.rpartition(".")[0], "python_full_version": python}
        chosen = [one for one in locked if one.marker is None or one.marker.evaluate(here)]
        names = [canonicalize_name(one.name) for one in chosen]
        assert len(names) == len(set(names))
        assert {canonicalize_name(one.name) for one in wanted} <= set(names)
