"""The whole service from the outside: `secateur up` as a process, curl, signals."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from service.client import Client, ClientError
from service.settings import Settings
from tests.service.conftest import PROFILE, QUICK_CHILD, plan, secateur, wait_for


@dataclasses.dataclass(frozen=True)
class Service:
    """A running service."""

    url: str
    process: subprocess.Popen[str]
    data_dir: Path


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[Service]:
    """`secateur up` on a free port."""
    with secateur("up", "--port", "0", "--json", settings=settings) as process:
        assert process.stdout is not None
        text = ""
        while not text.rstrip().endswith("}"):
            line = process.stdout.readline()
            assert line, (settings.data_dir / "logs" / "web.log").read_text()
            text += line
        yield Service(json.loads(text)["url"], process, settings.data_dir)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose engine is the quick child."""
    folder = tmp_path_factory.mktemp("quick")
    settings = Settings(data_dir=folder / "data", cache_dir=folder / "cache", child_command=QUICK_CHILD, sweep_s=0.5)
    with running(settings) as service:
        yield service


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with the real engine."""
    folder = tmp_path_factory.mktemp("real")
    with running(Settings(data_dir=folder / "data", cache_dir=folder / "cache", sweep_s=0.5)) as service:
        yield service


def curl(*arguments: str) -> str:
    """What curl prints."""
    patient = ("--retry", "20", "--retry-delay", "1", "--retry-connrefused", "--retry-all-errors")
    run = subprocess.run(["curl", "-sS", *patient, *arguments], capture_output=True, text=True, check=True, timeout=60)
    return run.stdout


def start(
    service: Service, model: Path, dataset: Path | None = None, spec: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Start a job with one curl."""
    fields = ["-F", f"model=@{model}", "-F", "spec=" + json.dumps({"profiles": [PROFILE], **(spec or {})})]
    fields += ["-F", f"dataset=@{dataset}"] if dataset is not None else []
    job: dict[str, Any] = json.loads(curl(*fields, f"{service.url}/v1/jobs"))
    return job


def end(service: Service, job: dict[str, Any], timeout_s: float = 60) -> dict[str, Any]:
    """The job once it has ended."""
    deadline = time.monotonic() + timeout_s
    with Client(service.url) as client:
        for found in client.watch(job["id"]):
            assert found["finished_at"] or time.monotonic() < deadline, found
    return found


def write(path: Path, data: bytes) -> Path:
    """A file with these bytes."""
    path.write_bytes(data)
    return path


def test_three_form_fields_start_a_job(quick: Service, tmp_path: Path) -> None:
    """One curl starts it, curl polls it, curl -O gets best.onnx."""
    job = start(quick, write(tmp_path / "m.onnx", plan()), write(tmp_path / "d.npz", b"d"))
    self_url = quick.url + job["urls"]["self"]
    wait_for(lambda: json.loads(curl(self_url))["status"] == "succeeded")
    subprocess.run(["curl", "-sSO", f"{quick.url}{job['urls']['artifacts']}/best.onnx"], cwd=tmp_path, check=True)
    assert (tmp_path / "best.onnx").read_bytes() == b"best of " + plan()


def test_cancel_ends_a_running_job(quick: Service, tmp_path: Path) -> None:
    """It ends cancelled within ten seconds, stays so, and its partial front can be had."""
    job = start(quick, write(tmp_path / "m.onnx", plan(units=1000, unit_s=0.1)))
    with Client(quick.url) as client:
        wait_for(lambda: client.job(job["id"])["progress"]["fraction"] > 0)
        client.cancel(job["id"])
        wait_for(lambda: client.job(job["id"])["status"] == "cancelled", 10)
        assert client.front(job["id"])[PROFILE].points
        assert end(quick, start(quick, write(tmp_path / "n.onnx", plan())))["status"] == "succeeded"
        assert client.job(job["id"])["status"] == "cancelled"


def test_kill_9_of_the_child(quick: Service, tmp_path: Path) -> None:
    """The job goes on in a new child and succeeds; what the first had finished is not done again."""
    job = start(quick, write(tmp_path / "m.onnx", plan(units=40, wait_at=10)))
    with Client(quick.url) as client:
        wait_for(lambda: client.job(job["id"])["progress"]["fraction"] > 0.1)
        os.kill(int((quick.data_dir / "jobs" / job["id"] / "child.pid").read_text()), signal.SIGKILL)
        done = end(quick, job)
        assert (done["status"], done["attempt"]) == ("succeeded", 2)
        client.download(job["id"], tmp_path, ("report.json",))
    assert json.loads((tmp_path / "report.json").read_text())["warnings"] == ["2 processes"]


def test_killed_parts_are_started_again(quick: Service, tmp_path: Path) -> None:
    """Kill -9 of the web server's worker and of the worker: the service is back, and takes jobs."""
    with contextlib.suppress(ProcessLookupError):
        for pid in children(quick.process.pid):
            if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
    job = start(quick, write(tmp_path / "m.onnx", plan()))
    wait_for(lambda: json.loads(curl(quick.url + job["urls"]["self"]))["status"] == "succeeded", 60)


def test_another_up_on_the_same_data_is_refused(quick: Service) -> None:
    """Two supervisors of one data directory would fight; the second one says so."""
    command = [sys.executable, "-m", "service.cli", "up", "--port", "0", "--data-dir", str(quick.data_dir)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 1
    assert "another `secateur up`" in run.stderr


def test_the_client_checks_what_it_gets(quick: Service, tmp_path: Path) -> None:
    """A name that the job does not have is refused with those it has, and nothing is written."""
    job = end(quick, start(quick, write(tmp_path / "m.onnx", plan())))
    with Client(quick.url) as client, pytest.raises(ClientError, match=r"best\.onnx"):
        client.download(job["id"], tmp_path / "out", ("none",))
    assert not (tmp_path / "out").exists()


def test_a_clean_stop_leaves_no_process(tmp_path: Path) -> None:
    """SIGTERM ends every part, with a job running too; the next start goes on with it."""
    settings = Settings(
        data_dir=tmp_path / "data",
        cache_dir=tmp_path / "cache",
        child_command=QUICK_CHILD,
        sweep_s=0.5,
        republish_s=1.0,
    )
    with running(settings) as service:
        job = start(service, write(tmp_path / "m.onnx", plan(units=50, wait_at=10)))
        with Client(service.url) as client:
            wait_for(lambda: client.job(job["id"])["progress"]["fraction"] > 0.1)
        family = descendants(service.process.pid)
        service.process.terminate()
        assert service.process.wait(30) == 0
    assert [pid for pid in family if alive(pid)] == []
    with running(settings) as service:
        done = end(service, job)
    assert (done["status"], done["attempt"]) == ("succeeded", 2)


def children(pid: int) -> list[int]:
    """Direct children."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def descendants(pid: int) -> list[int]:
    """Children and theirs."""
    return [each for child in children(pid) for each in (child, *descendants(child))]


def alive(pid: int) -> bool:
    """Whether the process runs."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


# With the real engine, on targets that need no calibration.

_TARGETS = ["a100-tensorrt-fp16", "tpu-v5e"]


def small_network(seed: int = 0, operator: str = "Relu") -> bytes:
    """An ONNX file: two convolutions of 32 channels over 3 x 8 x 8 inputs, global pooling, 4 classes."""
    draw = np.random.default_rng(seed)

    def weight(name: str, *shape: int) -> TensorProto:
        scale = np.sqrt(2 / np.prod(shape[1:]))
        return numpy_helper.from_array((draw.standard_normal(shape) * scale).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], name="conv1", pads=[1] * 4, kernel_shape=[3, 3]),
        helper.make_node(operator, ["a"], ["b"], name="act1", domain="" if operator == "Relu" else "elsewhere"),
        helper.make_node("Conv", ["b", "w2"], ["c"], name="conv2", pads=[1] * 4, kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["d"], name="act2"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], name="pool"),
        helper.make_node("Flatten", ["e"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w3"], ["y"], name="head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [weight("w1", 32, 3, 3, 3), weight("w2", 32, 32, 3, 3), weight("w3", 4, 32)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("elsewhere", 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def samples(n: int = 240, shape: tuple[int, ...] = (3, 8, 8)) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Random images with random labels of 4 classes."""
    draw = np.random.default_rng(1)
    return draw.standard_normal((n, *shape)).astype(np.float32), draw.integers(0, 4, n)


def npz(path: Path, **arrays: Any) -> Path:
    """A data set."""
    np.savez(path, **arrays)
    return path


def bad_inputs(folder: Path) -> dict[str, tuple[Path, Path | None, set[str]]]:
    """Model, data set, and the types of refusal that fit."""
    good = write(folder / "good.onnx", small_network())
    x, y = samples()
    objects = np.array([{"a": 1}] * 3, dtype=object)
    invalid_model, invalid_data = {"invalid-model"}, {"invalid-dataset"}
    return {
        "a PNG": (write(folder / "png.onnx", b"\x89PNG\r\n\x1a\n" + bytes(100)), None, invalid_model),
        "a truncated model": (write(folder / "cut.onnx", small_network()[:2000]), None, invalid_model),
        "an unknown operator": (
            write(folder / "op.onnx", small_network(operator="Magic")),
            None,
            {"unsupported-operator"},
        ),
        "pickled objects": (good, npz(folder / "pickle.npz", x=objects), invalid_data),
        "no archive": (good, write(folder / "text.npz", b"hello"), invalid_data),
        "labels out of range": (good, npz(folder / "labels.npz", x=x, y=y + 100), invalid_data),
        "another shape": (
            good,
            npz(folder / "shape.npz", x=samples(shape=(3, 9, 9))[0], y=y),
            {"dataset-shape-mismatch"},
        ),
        "no samples": (good, npz(folder / "none.npz", x=x[:0], y=y[:0]), invalid_data),
    }


def test_bad_inputs_end_in_a_typed_failure(real: Service, tmp_path: Path) -> None:
    """Each fails with its type, and the next good job succeeds."""
    cases = bad_inputs(tmp_path)
    jobs = {name: start(real, model, data, {"profiles": _TARGETS[:1]}) for name, (model, data, _) in cases.items()}
    x, y = samples()
    good = start(
        real,
        write(tmp_path / "good.onnx", small_network()),
        npz(tmp_path / "good.npz", x=x, y=y),
        {"profiles": _TARGETS[:1], "search": {"points": 3}},
    )
    for name, (_, _, types) in cases.items():
        done = end(real, jobs[name], 120)
        assert done["status"] == "failed", name
        assert done["error"]["type"] in types, (name, done["error"])
        if name == "an unknown operator":
            assert "act1" in json.dumps(done["error"])
    assert end(real, good, 200)["status"] == "succeeded"
    empty = json.loads(
        curl("-F", f"model=@{write(tmp_path / 'empty.onnx', b'')}", "-F", "spec={}", f"{real.url}/v1/jobs")
    )
    assert empty["type"] == "validation-error"


def test_a_real_job_gives_models_that_load(real: Service, tmp_path: Path) -> None:
    """Two targets give two fronts, kill -9 half way does not matter, and every model loads and takes any batch."""
    import onnxruntime

    x, y = samples()
    model, data = write(tmp_path / "m.onnx", small_network(seed=2)), npz(tmp_path / "d.npz", x=x, y=y)
    job = start(real, model, data, {"profiles": _TARGETS, "search": {"points": 3}})
    pid = real.data_dir / "jobs" / job["id"] / "child.pid"
    units = pid.with_name("units")
    wait_for(lambda: units.is_dir() and any(units.iterdir()), 100)
    os.kill(int(pid.read_text()), signal.SIGKILL)
    done = end(real, job, 250)
    assert (done["status"], done["attempt"]) == ("succeeded", 2), done["error"]
    with Client(real.url) as client:
        fronts = client.front(job["id"])
        paths = client.download(job["id"], tmp_path / "out")
    assert list(fronts) == _TARGETS
    models = [path for path in paths if path.suffix == ".onnx"]
    assert len(models) >= 2
    for path in models:
        onnx.checker.check_model(str(path))
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        assert session.run(None, {session.get_inputs()[0].name: x[:3]})[0].shape == (3, 4)


def test_inspect_through_the_service(real: Service, tmp_path: Path) -> None:
    """A dry run of the real engine lists the two convolutions' channels."""
    from search.wire.request import JobSpec

    with Client(real.url) as client:
        found = client.inspect(JobSpec(profiles=(_TARGETS[0],)), write(tmp_path / "m.onnx", small_network()))
        assert sum(group["units"] for group in found["groups"]) == 64
        with pytest.raises(ClientError) as refusal:
            client.inspect(JobSpec(profiles=(_TARGETS[0],)), write(tmp_path / "png.onnx", b"\x89PNG"))
    assert refusal.value.problem["type"] == "invalid-model"
