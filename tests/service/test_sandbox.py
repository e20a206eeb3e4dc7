"""The limits around a child hold."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service import sandbox
from service.sandbox import Limits


def run(code: str, directory: Path, limits: Limits | None = None) -> tuple[int, str]:
    """Run Python code in the sandbox; exit code and output."""
    child = sandbox.start([sys.executable, "-c", code], directory, directory / "cache", limits or Limits())
    code_ = child.wait(30)
    return code_, (directory / "child.log").read_text()


def test_the_environment_carries_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what an engine needs is passed on."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:secret@db")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    _, output = run("import os; print(dict(os.environ))", tmp_path)
    assert "secret" not in output
    assert "CUDA_VISIBLE_DEVICES" in output


def test_memory_is_limited(tmp_path: Path) -> None:
    """An allocation above the limit fails in the child."""
    code, output = run("bytearray(2**30)", tmp_path, Limits(memory_bytes=2**28))
    assert code != 0
    assert "MemoryError" in output


def test_files_are_limited(tmp_path: Path) -> None:
    """A file does not grow above the limit."""
    code, _ = run("open('big', 'wb').write(b'x' * 2**20)", tmp_path, Limits(file_bytes=2**16))
    assert code != 0
    assert (tmp_path / "big").stat().st_size <= 2**16


def test_processor_time_is_limited(tmp_path: Path) -> None:
    """An endless loop is ended by the kernel."""
    code, _ = run("while True: pass", tmp_path, Limits(cpu_s=1))
    assert code in {-signal.SIGXCPU, -signal.SIGKILL}


def test_there_is_no_network(tmp_path: Path) -> None:
    """Where the kernel gives network namespaces, a child cannot even reach this machine."""
    if not sandbox.holds()["no_network"]:
        pytest.skip("this kernel allows no network namespace here")
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code, _ = run(f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)", tmp_path)
    assert code != 0


def test_nothing_is_imported_from_the_job(tmp_path: Path) -> None:
    """A file in the job's directory does not become a module."""
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    assert run("import json", tmp_path)[0] == 0


def test_stop_ends_the_whole_group(tmp_path: Path) -> None:
    """Grandchildren end too, those that ignore SIGTERM included."""
    script = "import signal,subprocess,sys,time; signal.signal(15, signal.SIG_IGN); "
    script += "p = subprocess.Popen(['sleep', '60']); open('pid', 'w').write(str(p.pid)); time.sleep(60)"
    child = sandbox.start([sys.executable, "-c", script], tmp_path, tmp_path, Limits())
    pid_file = tmp_path / "pid"
    while not (pid_file.exists() and pid_file.read_text()):
        time.sleep(0.02)
    assert sandbox.stop(child, 0.5) == -signal.SIGKILL
    time.sleep(0.1)
    stat = Path(f"/proc/{pid_file.read_text()}/stat")
    assert not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    """Kill -9 of the process that started it ends it."""
    script = (
        "import sys, time; from pathlib import Path; from service import sandbox; d = Path(sys.argv[1]); "
        "c = sandbox.start(['sleep', '60'], d, d, sandbox.Limits()); time.sleep(0.5); print(c.pid, flush=True); time.sleep(60)"
    )
    root = Path(sandbox.__file__).parent.parent
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the child outlived its parent")


def test_files_are_fenced(tmp_path: Path) -> None:
    """Where the kernel has Landlock a child reads and writes its own directory, and no other of the same user."""
    if not sandbox.holds()["fenced_files"]:
        pytest.skip("this kernel has no Landlock")
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.mkdir()
    other.mkdir()
    (other / "secret").write_text("secret")
    (other / "measurements").mkdir()
    tries = {
        "own": "import os; open('f', 'w').close(); os.mkdir('d'); os.rename('f', 'd/f'); open('/dev/null', 'w').close()",
        "remembered": f"open({str(other / 'measurements' / 'm')!r}, 'w').write('m')",
        "read": f"open({str(other / 'secret')!r}).read()",
        "list": f"import os; os.listdir({str(other)!r})",
        "write": f"open({str(other / 'secret')!r}, 'w')",
        "make": f"open({str(other / 'new')!r}, 'w')",
        "link": f"import os; os.symlink({str(other / 'secret')!r}, 'link'); open('link').read()",
        "spy": f"open('/proc/{os.getpid()}/environ').read()",
        "child": f"import subprocess; subprocess.run(['cat', {str(other / 'secret')!r}], check=True)",
    }
    for name, code in tries.items():
        child = sandbox.start([sys.executable, "-c", code], mine, other, Limits())
        ended = child.wait(30)
        assert (ended == 0) is (name in {"own", "remembered"}), (name, (mine / "child.log").read_text())
    assert (other / "secret").read_text() == "secret"
    assert not (other / "new").exists()


def test_what_is_required_and_missing_stops_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """`require` takes no jobs on a machine without; `prefer` goes on there."""
    from service.errors import Unprotected

    monkeypatch.setattr(sandbox, "holds", lambda: {"no_network": False, "fenced_files": False})
    sandbox.policies("prefer", "prefer")
    with pytest.raises(Unprotected, match="SECATEUR_SANDBOX_NETWORK"):
        sandbox.policies("require", "prefer")
    with pytest.raises(Unprotected, match="SECATEUR_SANDBOX_FILES"):
        sandbox.policies("prefer", "require")


@pytest.mark.parametrize("policy", ["network", "files"])
def test_a_child_does_not_start_without_what_is_required(
    policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the worker was not asked: the child itself refuses, before the command is anything."""
    from service import landlock

    monkeypatch.setattr(landlock, "fence", lambda *_: False)
    monkeypatch.setattr(sandbox, "_leave_network", lambda: False)
    monkeypatch.setattr(sandbox, "_limit", lambda _: None)
    monkeypatch.setattr(sandbox, "_die_with_parent", lambda: None)
    became: list[object] = []
    monkeypatch.setattr(os, "execvp", lambda *words: became.append(words))
    open_ = {"network": "off", "files": "off"}
    limits = json.dumps(dataclasses.asdict(Limits(**{**open_, policy: "require"})))  # type: ignore[arg-type]
    with pytest.raises(SystemExit, match="required"):
        sandbox._become([limits, "true"])
    assert became == []
    sandbox._become([json.dumps(dataclasses.asdict(Limits(**{**open_, policy: "prefer"}))), "true"])  # type: ignore[arg-type]
    assert became


def test_processes_are_limited() -> None:
    """The limit reaches the child; root is above it, so that it is only looked at."""
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_NPROC)[0])"
    limits = Limits(processes=1234, files="off", network="off")
    run_ = subprocess.run(
        sandbox.launched([sys.executable, "-c", code], limits), capture_output=True, text=True, check=True
    )
    assert run_.stdout.strip() == "1234"


def test_a_child_stands_back() -> None:
    """Its niceness is above that of whoever starts it."""
    code = "import os; print(os.nice(0))"
    launched = sandbox.launched([sys.executable, "-c", code], Limits(niceness=3, files="off", network="off"))
    run_ = subprocess.run(launched, capture_output=True, text=True, check=True)
    assert int(run_.stdout) == os.nice(0) + 3
