"""The node suite that ships inside the onnx wheel, run on our engine: pass, refused, wrong or crash, case by case.

Run: ``python -m tests.benchmarks.node_suite [part of a case's name]``. Inputs are traced (jit); a case whose shapes depend on
its inputs is run once more with all inputs as constants, which is how such values reach us in real files.
"""

from __future__ import annotations

import collections
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import onnx

from search.errors import SecateurError
from search.graph import execute, onnx_import
from search.graph.ops import OPS

SECONDS_A_CASE = 60


class Result(NamedTuple):
    """What became of one case."""

    name: str
    outcome: str
    """"traced" or "constant" (a pass), "refused", "wrong" or "crash"."""
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
        return Result(case.name, "refused" if operator else "refused-unnamed", error.detail, operator)
    except AssertionError as error:
        return Result(case.name, "wrong", " ".join(str(error).split())[:200])
    except Exception as error:  # noqa: BLE001 - the table counts what the engine lets out
        return Result(case.name, "crash", f"{type(error).__name__}: {error}".replace("\n", " ")[:200])
    finally:
        signal.alarm(0)


def _too_slow(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS_A_CASE} s")


def _judge(case: Any) -> Result:
    graph = onnx_import.load(case.model.SerializeToString())
    names = [info.name for info in case.model.graph.input]
    for inputs, expected in case.data_sets:
        feeds = {name: _value(value) for name, value in zip(names, inputs, strict=True)}
        outcome, outputs = _outputs(graph, feeds)
        for actual, wanted in zip(outputs, expected, strict=True):
            _compare(actual, _value(wanted), case)
    foreign = next((node.op for node in graph.nodes if node.domain or node.op not in OPS), "")
    return Result(case.name, outcome, operator=foreign)


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


def _outputs(graph: Any, feeds: dict[str, Any]) -> tuple[str, Sequence[Any]]:
    run = execute.forward(graph)
    if all(isinstance(value, np.ndarray) and value.dtype.kind not in "OUS" for value in feeds.values()):
        try:
            return "traced", jax.jit(lambda values: run({}, values))(feeds)
        except (SecateurError, TypeError):  # data-dependent shapes, types that JAX has not
            pass
    return "constant", run({}, feeds)


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
    foreign = sum(bool(result.operator) for result in results if result.outcome in ("traced", "constant"))
    counts = collections.Counter(result.outcome for result in results)
    for outcome in ("wrong", "crash", "refused-unnamed", "refused"):
        for result in results:
            if result.outcome == outcome:
                print(f"{outcome:16} {result.name:60} {result.operator:24} {result.detail[:150]}")
    print(
        f"{len(results)} cases: {counts['traced'] + counts['constant']} pass "
        f"({counts['constant']} of them with constant inputs, {foreign} through the callback into ONNX Runtime), "
        f"{counts['refused']} refused by operator, {counts['refused-unnamed']} refused otherwise, "
        f"{counts['wrong']} wrong, {counts['crash']} crashed"
    )


if __name__ == "__main__":
    main()
