"""The node suite that ships inside the onnx wheel: understood, carried, refused, wrong or crash, case by case.

Run: ``python -m tests.benchmarks.node_suite [part of a case's name]``. All outputs are compared with those of the suite: what is
understood as JAX computes it, a file with carried nodes also as it is written and run in ONNX Runtime.
"""

from __future__ import annotations

import collections
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

from search.graph.ir import Graph
from search.graph.onnx import head, read
from search.graph.run import execute
from search.wire.errors import SecateurError

SECONDS_A_CASE = 60


OUTCOMES = ("understood", "carried", "runtime differs", "refused", "runs nowhere", "wrong", "crash")


class Result(NamedTuple):
    """What became of one case."""

    name: str
    outcome: str
    """One of `OUTCOMES`; what "runs nowhere" is refused, and ONNX Runtime fails too."""
    detail: str = ""
    operator: str = ""


def run(pattern: str = "", *, stride: int = 1) -> Iterator[Result]:
    """Every case, or every ``stride``-th, whose name contains ``pattern``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        cases = load_model_tests(kind="node")
    with jax.enable_x64(True):
        for case in cases[::stride]:
            if pattern in case.name:
                yield _case(case)


def _case(case: Any) -> Result:
    signal.signal(signal.SIGALRM, _too_slow)
    signal.alarm(SECONDS_A_CASE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _judge(case)
    except SecateurError as error:
        operator = str(error.fields.get("operator", ""))
        return Result(case.name, "refused" if _runtime_runs(case) else "runs nowhere", error.detail, operator)
    except RuntimeException as error:
        return Result(case.name, "crash" if _runtime_runs(case) else "runs nowhere", str(error)[:200])
    except AssertionError as error:
        return Result(case.name, "wrong", " ".join(str(error).split())[:200])
    except Exception as error:  # noqa: BLE001 - the table counts what the engine lets out
        return Result(case.name, "crash", f"{type(error).__name__}: {error}".replace("\n", " ")[:200])
    finally:
        signal.alarm(0)


def _too_slow(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS_A_CASE} s")


def _judge(case: Any) -> Result:
    """What we understand runs in JAX, what is carried as a job runs it; where the runtime itself differs, that is said."""
    graph = read.load(case.model.SerializeToString())
    assert graph.kinds is not None
    names = [info.name for info in case.model.graph.input]
    for inputs, expected in case.data_sets:
        feeds = {name: _value(value) for name, value in zip(names, inputs, strict=True)}
        values = _values(graph, feeds)
        for info, wanted in zip(case.model.graph.output, expected, strict=True):
            try:
                _compare(_narrowed(values[info.name], _value(wanted)), _value(wanted), case)
            except AssertionError:
                if not graph.kinds.carried or _runtime_runs(case):
                    raise
                return Result(case.name, "runtime differs")
    return Result(case.name, "carried" if graph.kinds.carried else "understood")


def _values(graph: Graph, feeds: dict[str, Any]) -> dict[str, Any]:
    """Everything that goes in and out of head, graph and tail."""
    entered = head.enter(graph, feeds)
    tail = None if graph.frame is None else graph.frame.tail
    wanted = {info.name for info in graph.outputs} | (set(tail.inputs) & set(graph.producers()) if tail else set())

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        values = execute.walk(graph, {**graph.initializers, **inputs})
        return {name: values[name] for name in wanted}

    values = {**feeds, **entered, **jax.jit(run)(entered)}
    if graph.frame is None or tail is None:
        return values
    known = {**graph.frame.constants, **values}
    read = zip(onnx.ModelProto.FromString(tail.attributes["model"]).graph.input, tail.inputs, strict=True)
    given = {info.name: _given(known[name], info) for info, name in read}
    return values | dict(zip(tail.outputs, _run(tail.attributes["model"], given), strict=True))


def _narrowed(value: Any, wanted: Any) -> Any:
    """A value of the view, which has all floats in float32, in the type of the file."""
    floats = [isinstance(v, np.ndarray | jax.Array) and jnp.issubdtype(v.dtype, jnp.floating) for v in (value, wanted)]
    return np.asarray(value).astype(wanted.dtype) if all(floats) else value


def _given(value: Any, info: onnx.ValueInfoProto) -> Any:
    """A value as ONNX Runtime takes it."""
    if not info.type.HasField("tensor_type"):
        return value
    return np.asarray(value).astype(onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type), copy=False)


def _run(model: bytes, feeds: dict[str, Any]) -> list[Any]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {value.name: feeds[value.name] for value in session.get_inputs()}))


def _runtime_runs(case: Any) -> bool:
    """Whether ONNX Runtime runs the case, and right."""
    names = [info.name for info in case.model.graph.input]
    try:
        for inputs, expected in case.data_sets:
            feeds = {name: _value(value) for name, value in zip(names, inputs, strict=True)}
            for actual, wanted in zip(_run(case.model.SerializeToString(), feeds), expected, strict=True):
                _compare(actual, _value(wanted), case)
    except Exception:  # noqa: BLE001 - whatever it says, it does not run
        return False
    return True


def _value(value: Any) -> Any:
    """Test data as arrays; sequences as lists; an absent optional as None."""
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    if isinstance(value, onnx.SequenceProto):
        return onnx.numpy_helper.to_list(value)
    if isinstance(value, onnx.OptionalProto):
        return onnx.numpy_helper.to_optional(value)
    if isinstance(value, list):
        return [_value(item) for item in value]
    return None if value is None else np.asarray(value)


def _compare(actual: Any, expected: Any, case: Any) -> None:
    if isinstance(expected, list):
        assert len(actual) == len(expected)
        for a, b in zip(actual, expected, strict=True):
            _compare(a, b, case)
        return
    actual = np.asarray(actual)
    assert actual.shape == expected.shape, f"shape {actual.shape} for {expected.shape}"
    assert actual.dtype == expected.dtype, f"type {actual.dtype} for {expected.dtype}"
    if expected.dtype.kind in "OUSb":
        assert (actual.astype(str) == expected.astype(str)).all()
    else:
        wide = np.complex128 if expected.dtype.kind == "c" else np.float64
        actual, wanted = actual.astype(wide), expected.astype(wide)
        rounding = 2 * _epsilon(expected.dtype) * np.abs(wanted[np.isfinite(wanted)]).max(initial=0)
        np.testing.assert_allclose(actual, wanted, rtol=case.rtol, atol=max(case.atol, rounding))


def _epsilon(dtype: Any) -> float:
    """One unit in the last place at 1: the suite's fixed tolerance is finer than bfloat16 and than a float32 sum."""
    return 0.0 if dtype.kind in "iu" or dtype.name.startswith(("int", "uint")) else float(jnp.finfo(dtype).eps)  # type: ignore[no-untyped-call]


def main() -> None:
    """Print the table."""
    results = list(run(*sys.argv[1:2]))
    counts = collections.Counter(result.outcome for result in results)
    for outcome in ("wrong", "crash", "refused", "runtime differs", "runs nowhere"):
        for result in results:
            if result.outcome == outcome:
                print(f"{outcome:16} {result.name:60} {result.operator:24} {result.detail[:150]}")
    print(f"{len(results)} cases: " + ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES))


if __name__ == "__main__":
    main()
