"""Lowering of RNN, GRU and LSTM as a scan over time. Gates are stacked along the hidden axis as ONNX orders them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from search.graph.ir import Node
from search.graph.lazy_jax import jax, jnp
from search.graph.ops.lower import Inputs, Value, optional

Step = Callable[[Any, Any], Any]


ACTIVATIONS = {
    "sigmoid": "sigmoid", "tanh": "tanh", "relu": "relu", "elu": "elu", "leakyrelu": "leaky_relu",
    "softsign": "soft_sign", "softplus": "softplus",
}  # fmt: skip
"""ONNX's names of activations, in lower case, to those of `jax.nn`."""


def _activation(name: str) -> Callable[[Any], Any]:
    if name == "hardsigmoid":
        return lambda x: jnp.clip(0.2 * x + 0.5, 0, 1)
    found: Callable[[Any], Any] = getattr(jax.nn, ACTIVATIONS[name])
    return found


def _activations(node: Node, defaults: list[str], direction: int) -> list[Callable[[Any], Any]]:
    names = [name.lower() for name in node.get("activations", defaults * 2)]
    mine = names[direction * len(defaults) : (direction + 1) * len(defaults)]
    if node.get("activation_alpha") or node.get("activation_beta"):
        raise NotImplementedError("activations with parameters")
    limit = node.get("clip")
    chosen = [_activation(name) for name in mine]
    return [_clipped(function, limit) for function in chosen] if limit else chosen


def _clipped(function: Callable[[Any], Any], limit: float) -> Callable[[Any], Any]:
    return lambda x: function(jnp.clip(x, -limit, limit))


def _rnn(x: Any, h: Any, w: Any, r: Any, bias: tuple[Any, Any], f: list[Any]) -> Any:
    return f[0](x @ w.T + bias[0] + h @ r.T + bias[1])


def _gru(x: Any, h: Any, w: Any, r: Any, bias: tuple[Any, Any], f: list[Any], *, linear_before_reset: bool) -> Any:
    """Gates z, r, h."""
    xz, xr, xh = jnp.split(x @ w.T + bias[0], 3, axis=-1)
    rz, rr, rh = jnp.split(r, 3)
    bz, br, bh = jnp.split(bias[1], 3)
    z, reset = f[0](xz + h @ rz.T + bz), f[0](xr + h @ rr.T + br)
    new = f[1](xh + (reset * (h @ rh.T + bh) if linear_before_reset else (reset * h) @ rh.T + bh))
    return (1 - z) * new + z * h


def _lstm(x: Any, state: Any, w: Any, r: Any, bias: tuple[Any, Any], f: list[Any], *, peephole: Any) -> Any:
    """Gates i, o, f, c; peepholes i, o, f."""
    h, c = state
    i, o, forget, new = jnp.split(x @ w.T + bias[0] + h @ r.T + bias[1], 4, axis=-1)
    pi, po, pf = jnp.split(peephole, 3)
    c = f[0](forget + pf * c) * c + f[0](i + pi * c) * f[1](new)
    return f[0](o + po * c) * f[2](c), c


def _scan(step: Step, xs: Any, state: Any, lengths: Any, *, reverse: bool) -> tuple[Any, Any]:
    """Run over time; past a sample's length its state stays and its output is zero."""
    count = xs.shape[0]
    steps = np.arange(count)
    if reverse and lengths is None:
        xs = xs[::-1]
    elif reverse:
        order = jnp.where(steps[:, None] < lengths, lengths - 1 - steps[:, None], steps[:, None])
        xs = jnp.take_along_axis(xs, order[:, :, None], axis=0)

    def body(before: Any, item: tuple[Any, Any]) -> tuple[Any, Any]:
        x, t = item
        after = step(x, before)
        if lengths is None:
            return after, jax.tree.leaves(after)[0]
        alive = (t < lengths)[:, None]
        after = jax.tree.map(lambda a, b: jnp.where(alive, a, b), after, before)
        return after, jnp.where(alive, jax.tree.leaves(after)[0], 0)

    state, ys = jax.lax.scan(body, state, (xs, jnp.asarray(steps)))
    if reverse:
        ys = ys[::-1] if lengths is None else jnp.take_along_axis(ys, order[:, :, None], axis=0)
    return state, ys


def recurrent(node: Node, inputs: Inputs) -> Value:
    """ONNX ``RNN``, ``GRU``, ``LSTM``: x (T, N, I), or (N, T, I) with layout 1; every output in that layout."""
    x, w, r = (jnp.asarray(value) for value in inputs[:3])
    batch_first = bool(node.get("layout", 0))
    x = x.swapaxes(0, 1) if batch_first else x
    hidden, directions = r.shape[-1], w.shape[0]
    bias = optional(inputs, 3)
    bias = jnp.zeros((directions, 2 * w.shape[1]), x.dtype) if bias is None else jnp.asarray(bias)
    starts = [optional(inputs, position) for position in ((5, 6) if node.op == "LSTM" else (5,))]
    finals, outputs = [], []
    for direction in range(directions):
        state = [_start(start, direction, x, hidden, batch_first=batch_first) for start in starts]
        step = _step(node, direction, w[direction], r[direction], bias[direction], optional(inputs, 7))
        backward = node.get("direction", "forward") == "reverse" or direction == 1
        final, ys = _scan(
            step, x, tuple(state) if node.op == "LSTM" else state[0], optional(inputs, 4), reverse=backward
        )
        finals.append(jax.tree.leaves(final))
        outputs.append(ys)
    y = jnp.stack(outputs, axis=1)
    last = [jnp.stack(parts) for parts in zip(*finals, strict=True)]
    if batch_first:
        y, last = y.transpose(2, 0, 1, 3), [state.swapaxes(0, 1) for state in last]
    return (y, *last)


def _start(start: Value, direction: int, x: Any, hidden: int, *, batch_first: bool) -> Any:
    if start is None:
        return jnp.zeros((x.shape[1], hidden), x.dtype)
    return jnp.asarray(start)[:, direction] if batch_first else jnp.asarray(start)[direction]


def _step(node: Node, direction: int, w: Any, r: Any, bias: Any, peephole: Value) -> Step:
    pair = tuple(jnp.split(bias, 2))
    if node.op == "RNN":
        f = _activations(node, ["Tanh"], direction)
        return lambda x, h: _rnn(x, h, w, r, pair, f)  # type: ignore[arg-type]
    if node.op == "GRU":
        f = _activations(node, ["Sigmoid", "Tanh"], direction)
        linear = bool(node.get("linear_before_reset", 0))
        return lambda x, h: _gru(x, h, w, r, pair, f, linear_before_reset=linear)  # type: ignore[arg-type]
    if node.get("input_forget", 0):
        raise NotImplementedError("input_forget")
    f = _activations(node, ["Sigmoid", "Tanh", "Tanh"], direction)
    p = jnp.zeros(3 * r.shape[-1], w.dtype) if peephole is None else jnp.asarray(peephole)[direction]
    return lambda x, state: _lstm(x, state, w, r, pair, f, peephole=p)  # type: ignore[arg-type]
