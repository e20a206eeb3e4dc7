"""The command line, run as people run it, with the quick child as the engine."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, Protocol

import click
import pytest

from search.wire.request import JobSpec
from service.cli import main
from service.commands.options import spec_flags
from service.settings import Settings

from .conftest import PROFILE, plan


@dataclasses.dataclass(frozen=True)
class Run:
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


class Cli(Protocol):
    """Runs `secateur` with arguments."""

    def __call__(self, *arguments: str) -> Run:
        """As typed in a shell."""


@pytest.fixture
def cli(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command line in this process; the engine is a process all the same."""
    for name, value in settings.to_env().items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> Run:
        monkeypatch.setattr(sys, "argv", ["secateur", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return Run(int(end.value.code or 0), out, err)

    return run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model file for the quick child."""
    path = tmp_path / "net.onnx"
    path.write_bytes(plan())
    return path


def test_compress_writes_what_a_job_gives(cli: Cli, model: Path, tmp_path: Path) -> None:
    """The directory has the files of a job's artifacts, and --json prints the report alone."""
    out = tmp_path / "out"
    run = cli("compress", str(model), "--out", str(out), "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == json.loads((out / "report.json").read_text())
    for name in ("report.html", "best.onnx", f"points/{PROFILE}/p1.onnx"):
        assert (out / name).is_file()
    shown = cli("compress", str(model), "--out", str(out))
    assert "p1 *" in shown.stdout


def test_compress_goes_on_from_its_directory(cli: Cli, tmp_path: Path) -> None:
    """A run whose engine died is resumed by the same command; the first one says what happened, without a traceback."""
    model = tmp_path / "net.onnx"
    model.write_bytes(plan(units=4, kill_at=2))
    arguments = ("compress", str(model), "--job-dir", str(tmp_path / "job"), "--out", str(tmp_path / "out"), "--json")
    first = cli(*arguments)
    assert first.returncode == 1
    assert json.loads(first.stdout)["type"] == "internal"
    assert "Traceback" not in first.stdout + first.stderr
    second = cli(*arguments)
    assert json.loads(second.stdout)["warnings"] == ["2 processes"]


def test_a_refusal_is_the_engines(cli: Cli, tmp_path: Path) -> None:
    """--json prints the problem object, without it the sentence goes to stderr; the exit code is 1."""
    problem = {"type": "invalid-model", "title": "t", "detail": "node `x` is odd", "retryable": False, "node": "x"}
    model = tmp_path / "net.onnx"
    model.write_bytes(plan(refuse=problem))
    for verb in ("compress", "inspect"):
        run = cli(verb, str(model), "--json")
        assert run.returncode == 1
        assert json.loads(run.stdout) == problem
        assert "node `x` is odd" in cli(verb, str(model)).stderr


def test_inspect(cli: Cli, model: Path) -> None:
    """--json prints the inspection, without it a person reads the latency."""
    run = cli("inspect", str(model), "--profile", PROFILE, "--json")
    assert json.loads(run.stdout)["profiles"][PROFILE]["latency_ms"]["value"] == 2.0
    assert "2.000 ms" in cli("inspect", str(model)).stdout


def test_profiles(cli: Cli) -> None:
    """The list has the built-in targets; one can be shown whole; a misspelt one is refused with what was meant."""
    listed = json.loads(cli("profiles", "--json").stdout)["data"]
    assert PROFILE in {profile["id"] for profile in listed}
    assert json.loads(cli("profiles", PROFILE, "--json").stdout)["id"] == PROFILE
    some = [each["id"] for each in json.loads(cli("profiles", "int8", "Pixel4", "--json").stdout)["data"]]
    assert some == [each["id"] for each in listed if "pixel4" in each["id"] and "int8" in each["id"]] != []
    assert all(each in cli("profiles", "pixel4").stdout for each in some)  # no id is broken
    unknown = cli("profiles", PROFILE.replace("nn", "n"))
    assert unknown.returncode == 1
    assert PROFILE in unknown.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("compress", "/nowhere.onnx"), "/nowhere.onnx"),
        (("inspect", __file__, "--profile", "none"), "none"),
        (("status", "job_x", "--url", "http://127.0.0.1:1"), "secateur up"),
    ],
)
def test_errors_are_sentences(cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    """No traceback, an exit code, and a word of what to do."""
    run = cli(*arguments)
    assert run.returncode in {1, 2}
    assert words in run.stderr
    assert "Traceback" not in run.stderr


def spec(*arguments: str) -> JobSpec:
    """The spec that flags make."""
    found: list[JobSpec] = []

    @click.command()
    @spec_flags
    def command(spec: JobSpec) -> None:
        found.append(spec)

    command.main(list(arguments), standalone_mode=False)
    return found[0]


def test_every_field_has_a_flag() -> None:
    """A request whose every field differs from its default can be written with flags."""
    fields: dict[str, Any] = {
        "profiles": ["a", "b"],
        "objective": {"max_latency_ms": 8.0},
        "constraints": {
            "max_accuracy_drop": 0.02,
            "exclude": ["head*"],
            "structures": ["channel", "nm"],
            "min_widths": [{"pattern": "stem*", "share": 0.5}, {"pattern": "*", "share": 0.25}],
            "max_bytes": 4096,
            "max_memory_bytes": 8192,
        },
        "search": {
            "points": 3,
            "at_speedups": [1.5, 3.0],
            "seed": 4,
            "criterion": "l1",
            "allocator": "erk",
            "finetune_minutes": 2.0,
            "schedule": "gradual",
            "deadline_minutes": 5.0,
        },
        "input_shapes": [{"input": "x:0", "shape": [1, 3, 48, 320]}, {"input": "h", "shape": [2, 1, 64]}],
    }
    line = "--profile a --profile b --max-latency-ms 8 --max-accuracy-drop 0.02 --exclude head* --structures channel "
    line += "--structures nm --points 3 --seed 4 --criterion l1 --finetune-minutes 2 --schedule gradual "
    line += "--deadline-minutes 5 --allocator erk --min-width stem* 0.5 --min-width * 0.25 --max-bytes 4096 "
    line += (
        "--max-memory-bytes 8192 --at-speedup 1.5 --at-speedup 3 --input-shape x:0:1,3,48,320 --input-shape h:2,1,64"
    )
    assert spec(*line.split()) == JobSpec.from_json(json.dumps({"schema_version": 1, **fields}))


def test_the_accuracy_drop_alone_is_the_objective() -> None:
    """Beside another objective it is a constraint; alone it is what to aim for; nothing is the default."""
    assert spec("--max-accuracy-drop", "0.05").objective.max_accuracy_drop == 0.05
    assert spec("--max-accuracy-drop", "0.05").constraints.max_accuracy_drop is None
    assert spec("--speedup", "2", "--max-accuracy-drop", "0.05").constraints.max_accuracy_drop == 0.05
    assert spec() == JobSpec()


def test_a_value_out_of_range_is_a_usage_error() -> None:
    """The same limits hold as over HTTP."""
    with pytest.raises(click.UsageError, match=r"search\.at_speedups"):
        spec("--at-speedup", "1")
    with pytest.raises(click.UsageError, match=r"search\.points"):
        spec("--points", "99")
    for shape in ("1,3,48,48", "x:1,3,H,W", "x:"):
        with pytest.raises(click.UsageError, match="x:1,3,48,320"):
            spec("--input-shape", shape)
    with pytest.raises(click.UsageError, match="input_shapes"):
        spec("--input-shape", "x:0,3")


def test_an_open_service_stays_on_loopback(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys cannot be turned off where others can reach the address; the refusal says what to do."""
    monkeypatch.setenv("SECATEUR_API_KEYS", "off")
    run = cli("up", "--host", "0.0.0.0")
    assert run.returncode == 1
    assert "secateur keys create" in run.stderr


def test_keys_are_told_once(cli: Cli) -> None:
    """The key is printed when it is made; the list shows its id, and whether it was revoked."""
    made = json.loads(cli("keys", "create", "--tenant", "camera", "--name", "ci", "--json").stdout)
    assert made["key"].startswith(made["id"])
    assert made["key"] not in cli("keys", "list", "--json").stdout
    assert json.loads(cli("keys", "revoke", made["id"], "--json").stdout)["revoked"]
    [row] = json.loads(cli("keys", "list", "--json").stdout)["data"]
    assert row == {"id": made["id"], "tenant": "camera", "name": "ci", "revoked": True}
    assert cli("keys", "create", "--tenant", "No Tenant").returncode == 1


def test_what_a_failed_engine_wrote_is_private(cli: Cli, settings: Settings, tmp_path: Path) -> None:
    """Beside the results, or where there are none in a file of its own that only its user reads; ten of these are kept."""
    model = tmp_path / "net.onnx"
    model.write_bytes(plan(kill_at=0, kill_always=True))
    failed = cli("compress", str(model), "--out", str(tmp_path / "out"), "--json")
    assert str(tmp_path / "out" / "internal-error.txt") in json.loads(failed.stdout)["detail"]
    from service.commands import scratch

    (tmp_path / "child.log").write_text("log")
    kept = scratch.keep_failure(tmp_path / "child.log")
    assert kept.parent == settings.cache_dir / "failures"
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    paths = [scratch.keep_failure(tmp_path / "child.log") for _ in range(12)]
    assert len(list(kept.parent.iterdir())) == 10
    assert paths[-1].exists()


def test_what_a_killed_command_left_is_removed(cli: Cli, settings: Settings, model: Path) -> None:
    """By the next command; the folder of one that still runs stays."""
    from service.commands.scratch import scratch

    parent = settings.cache_dir / "scratch"
    with scratch() as running:
        left = parent / "run-left"
        left.mkdir()
        (left / "lock").touch()
        (left / "model.onnx").write_bytes(b"private")
        assert cli("inspect", str(model), "--json").returncode == 0
        assert not left.exists()
        assert running.exists()
        assert parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in parent.iterdir()] == ["lock"]
