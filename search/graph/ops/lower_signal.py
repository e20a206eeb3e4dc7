"""Lowering of Fourier transforms. Complex numbers are pairs on the last axis, as in ONNX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from search.graph.ir import Node
from search.graph.lazy_jax import jnp
from search.graph.ops.lower import Inputs, Lower, Value, ints, optional


def _complex(x: Any) -> Any:
    return x[..., 0] + 1j * x[..., 1] if x.shape[-1] == 2 else x[..., 0]


def _pairs(x: Any, dtype: Any) -> Any:
    return jnp.stack([x.real, x.imag], axis=-1).astype(dtype)


def dft(opset: int) -> Lower:
    """Lower ``DFT``: the axis is an attribute before opset 20, an input from then on."""

    def lower(node: Node, inputs: Inputs) -> Value:
        x = jnp.asarray(inputs[0])
        length = optional(inputs, 1)
        third = optional(inputs, 2)
        axis = node.get("axis", 1) if opset < 20 else ints(third)[0] if third is not None else -2
        axis = axis % x.ndim
        size = None if length is None else ints(length)[0]
        onesided, values = bool(node.get("onesided", 0)), _complex(x)
        if node.get("inverse", 0):
            if onesided:
                return jnp.fft.irfft(values, size, axis=axis)[..., None].astype(x.dtype)
            return _pairs(jnp.fft.ifft(values, size, axis=axis), x.dtype)
        transform: Callable[..., Any] = jnp.fft.rfft if onesided and not jnp.iscomplexobj(values) else jnp.fft.fft
        return _pairs(transform(values, size, axis=axis), x.dtype)

    return lower


def stft(node: Node, inputs: Inputs) -> Value:
    """ONNX ``STFT``: (N, T, 1 or 2) to (N, frames, bins, 2)."""
    x = jnp.asarray(inputs[0])
    step = ints(inputs[1])[0]
    window, length = optional(inputs, 2), optional(inputs, 3)
    size = ints(length)[0] if length is not None else window.shape[0] if window is not None else x.shape[1]
    values = _complex(x) if x.ndim == 3 else x
    frames = 1 + (x.shape[1] - size) // step
    index = np.arange(frames)[:, None] * step + np.arange(size)[None, :]
    parts = values[:, index] * (1 if window is None else jnp.asarray(window)[None, None, :])
    onesided = bool(node.get("onesided", 1)) and not jnp.iscomplexobj(parts)
    return _pairs(jnp.fft.rfft(parts) if onesided else jnp.fft.fft(parts), x.dtype)
