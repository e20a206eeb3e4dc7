"""One operator on numbers: admitted, lowered, and blamed where it fails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from search.graph.ir import Node
from search.graph.lazy_jax import constants, is_traced, unknown_yet
from search.graph.ops import growth, table
from search.graph.ops.lower import Value
from search.graph.ops.lower_conv2d import channels_last
from search.graph.ops.op import Op
from search.wire.errors import InvalidModel, UnsupportedOperator


def compute(node: Node, inputs: Sequence[Value], opset: int, products: Any = np.float32) -> tuple[Value, ...]:
    """Compute one operator on numpy (static) or JAX (traced) values.

    Args:
        node: the operator.
        inputs: its operands, None where it has none.
        opset: version of the operator set.
        products: float type that float32 factors of traced products are rounded to; what is added, and the result, stays
            float32.

    Raises:
        UnsupportedOperator: the table does not have the operator, or this use of it; names the node.
        ResourceLimit: the outputs would be too large; names the node.
        InvalidModel: the operator's inputs contradict each other; names the node.
    """
    entry = table.of(node)
    if entry is None:
        raise _unsupported(node, "the operator table does not have it")
    static = not any(isinstance(value, list) or is_traced(value) for value in inputs)
    with blaming(node, inputs):
        growth.check_cost(node, inputs, constant=static)
        if np.dtype(products) == np.float32 or static or not entry.product:
            result = _lowered(entry, node, inputs, opset, static=static)
        else:
            factors = [_cast(value, np.float32, products) for value in inputs[:2]]
            result = _cast(_lowered(entry, node, [*factors, *inputs[2:]], opset, static=False), products)
    return result if isinstance(result, tuple) else (result,)


def _cast(value: Value, found: Any, wanted: Any = np.float32) -> Value:
    """A value of one type in another; every other value as it is."""
    return value.astype(wanted) if getattr(value, "dtype", None) == found else value


@contextlib.contextmanager
def blaming(node: Node, inputs: Sequence[Value]) -> Iterator[None]:
    """Name the node whose operands contradict each other.

    Raises:
        UnsupportedOperator: this use of the operator is not in the table, or needs numbers that are known only when it runs.
        InvalidModel: any other failure within.
    """
    try:
        yield
    except (NotImplementedError, AttributeError) as error:
        raise _unsupported(node, str(error)) from error
    except unknown_yet() as error:
        raise _unsupported(node, "a size, axis or index depends on the data") from error
    except (TypeError, ValueError, LookupError, ArithmeticError, AssertionError) as error:
        shapes = [getattr(v, "shape", None) for v in inputs]
        raise InvalidModel(
            f"node `{node.name}` ({node.op}) cannot be computed on inputs of shapes {shapes}: {_first_line(error)}; "
            "where ONNX Runtime runs the model on such inputs, this is a fault of secateur: please report it",
            node=node.name,
            operator=node.op,
        ) from error


def _lowered(entry: Op, node: Node, inputs: Sequence[Value], opset: int, *, static: bool) -> Value:
    """Run an entry of the table; what depends on constants only is a constant again, in ONNX's own types."""
    lowering = entry.lowering(opset)
    if not static:
        return (channels_last(lowering) if entry.apart == "elements" else lowering)(node, inputs)
    with constants():
        result = lowering(node, inputs)
    return tuple(map(_as_numpy, result)) if isinstance(result, tuple) else _as_numpy(result)


def _as_numpy(value: Value) -> Value:
    """An array of numpy's, also for a scalar of its own type; sequences as they are."""
    return np.asarray(value) if isinstance(value, np.generic) or is_traced(value) else value


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _unsupported(node: Node, why: str) -> UnsupportedOperator:
    name = f"{node.domain}::{node.op}" if node.domain else node.op
    return UnsupportedOperator(
        f"node `{node.name}`: operator {name} cannot be run inside the search: {why}; "
        "leave what stands before or behind the network itself out of the file, or report the operator",
        node=node.name,
        operator=name,
    )
