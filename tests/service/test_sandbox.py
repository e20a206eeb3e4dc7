"""The limits around a child hold."""

from __future__ import annotations

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
