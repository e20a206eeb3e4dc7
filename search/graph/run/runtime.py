"""ONNX Runtime inside the search: models in memory, and every run within a time. Loads no JAX."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import onnxruntime as ort

from search.wire.errors import ResourceLimit, SecateurError

LONGEST_RUN_S = 20.0
"""Of one batch. A session cannot be interrupted from outside, and a loop of the file may never end."""
_BLAMED = re.compile(r"while running (\w+) node. Name:'(.*?)'")
_failures: list[SecateurError] = []


class Runner:
    """A model in ONNX Runtime."""

    def __init__(self, model: bytes, *, optimised: bool = False) -> None:
        """Load it.

        Args:
            model: the file.
            optimised: for many runs of large batches: rewritten, and on all cores; otherwise as it is, on one thread.

        Raises:
            NotImplementedError: ONNX Runtime refuses the model.
        """
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.inter_op_num_threads = 1
        if optimised:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the other core may have work
        else:
            options.intra_op_num_threads = 1
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.enable_cpu_mem_arena = False  # what a strange file once took would be kept
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's own errors have no common class
            raise NotImplementedError(f"ONNX Runtime refuses it: {_first_line(error)}") from error
        self.types: Mapping[str, str] = {value.name: value.type for value in self._session.get_outputs()}
        """Output name to type, as ONNX Runtime writes it: ``tensor(float)``."""

    def __call__(
        self, feeds: Mapping[str, Any], outputs: Sequence[str] | None = None, *, longest_s: float = LONGEST_RUN_S
    ) -> list[Any]:
        """Run once.

        Raises:
            ResourceLimit: it took more than ``longest_s``; names the node.
            NotImplementedError: ONNX Runtime fails.
        """
        options = ort.RunOptions()
        options.log_severity_level = 4
        late = threading.Event()

        def stop() -> None:
            late.set()
            options.terminate = True

        timer = threading.Timer(longest_s, stop)
        timer.start()
        try:
            return list(self._session.run(outputs, dict(feeds), options))
        except Exception as error:  # the runtime's own errors have no common class
            if late.is_set():
                raise _too_long(error, longest_s) from error
            raise NotImplementedError(f"ONNX Runtime fails on it: {_first_line(error)}") from error
        finally:
            timer.cancel()


def keep(error: SecateurError) -> None:
    """Remember an error that is about to cross compiled code, where only its text survives."""
    _failures[:] = [error]


def kept() -> SecateurError | None:
    """The error behind the last failure of compiled code, once."""
    return _failures.pop() if _failures else None


def _too_long(error: Exception, longest_s: float) -> ResourceLimit:
    found = _BLAMED.search(str(error))
    op, name = found.groups() if found else ("", "")
    which = f"node `{name or op}` ({op})" if op else "a node that ONNX Runtime runs as it is"
    return ResourceLimit(
        f"{which} ran for more than {longest_s:g} s on one batch; give smaller samples, or export the model without it",
        node=name or op,
        operator=op,
        allowed_s=longest_s,
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
