"""What a command says where the engine ended otherwise than it should, and where its last words stay."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from search.wire.errors import FAULT_OF_OURS, InternalError, InvalidModel, SecateurError
from service.commands.local import EngineError, failure


def job(folder: Path, problem: SecateurError | None, **files: str) -> Path:
    """A job directory as an engine leaves it."""
    folder.mkdir()
    (folder / "child.log").write_text("what the engine wrote")
    if problem is not None:
        (folder / "error.json").write_text(json.dumps(problem.to_dict()))
    for name, text in files.items():
        (folder / f"{name.replace('_', '-')}.txt").write_text(text)
    return folder


def test_a_refusal_is_passed_on(tmp_path: Path) -> None:
    """The engine's own words and type; nothing is kept."""
    found = failure(job(tmp_path / "job", InvalidModel("no nodes")), 2, tmp_path / "out")
    assert isinstance(found, EngineError)
    assert found.to_dict()["type"] == "invalid-model"
    assert not (tmp_path / "out").exists()


def test_a_fault_of_ours_names_the_file_with_its_trace(tmp_path: Path) -> None:
    """The trace stays beside what the job would have written; the message says whose fault it is and where the trace is."""
    directory = job(tmp_path / "job", InternalError.behind(KeyError("conv1")), internal_error="Traceback: conv1")
    found = failure(directory, 2, tmp_path / "out")
    kept = tmp_path / "out" / "internal-error.txt"
    assert found.type == "internal"
    assert found.detail.startswith(FAULT_OF_OURS)
    assert found.detail.endswith(f"which is in {kept}")
    assert kept.read_text() == "Traceback: conv1"


def test_a_process_that_died_is_named_by_its_signal(tmp_path: Path) -> None:
    """A crash in a library says nothing itself: the log stays, in a file of its own for every failure."""
    directory = job(tmp_path / "job", None)
    first, second = (failure(directory, -signal.SIGSEGV).detail for _ in range(2))
    assert "SIGSEGV" in first
    assert first.startswith(FAULT_OF_OURS)
    assert first != second
    assert Path(first.split(" is in ")[-1]).read_text() == "what the engine wrote"
