"""Every weighted operator as a plain linear map, rows (R, d) to rows (R, m), so that one least squares serves them all."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from search.graph.ir import Array, Graph, Node
from search.graph.ops.lower_conv import pads_of

_CONVOLUTIONS = ("Conv", "ConvTranspose")


@dataclasses.dataclass(frozen=True)
class Linear:
    """A convolution, matrix product or batch norm whose weight is an initializer.

    ``groups`` independent maps of ``d`` inputs each: 1 for dense layers, the channels for depthwise kernels and norms. A
    transposed convolution is one of its input with zeros between the elements, by the kernel turned round.
    """

    node: Node
    weight: str
    bias: str
    groups: int
    output: str
    """The value that the map gives: of a matrix product whose bias is added by the next node, that node's output."""

    @classmethod
    def of(cls, node: Node, graph: Graph) -> Linear | None:
        """The view of a node, or None where it is not a linear map that we can refit."""
        weights = graph.initializers
        if len(node.inputs) < 2 or node.inputs[1] not in weights or weights[node.inputs[1]].dtype != np.float32:
            return None
        weight, bias = node.inputs[1], node.input(2)
        if bias and (bias not in weights or weights[bias].ndim != 1):
            return None
        if node.op == "BatchNormalization" and all(name in weights for name in node.inputs[1:5]):
            return cls(node, weight, bias, len(weights[weight]), node.outputs[0])
        if node.op == "Conv":
            return cls(node, weight, bias, int(node.get("group", 1)), node.outputs[0])
        if node.op == "ConvTranspose" and int(node.get("group", 1)) == 1 and _states_its_pads(node):
            return cls(node, weight, bias, 1, node.outputs[0])
        plain = node.get("alpha", 1.0) == 1.0 and node.get("beta", 1.0) == 1.0 and not node.get("transA", 0)
        if node.op == "Gemm" and plain:
            return cls(node, weight, bias, 1, node.outputs[0])
        if node.op == "MatMul" and weights[weight].ndim == 2:
            bias, output = _added_bias(node, graph)
            return cls(node, weight, bias, 1, output)
        return None

    def matrix(self, params: Mapping[str, Array]) -> Array:
        """Weights as (groups, d, m)."""
        weight = params[self.weight]
        if self.node.op == "BatchNormalization":
            return (weight / self._deviation(params)).reshape(-1, 1, 1)
        if self.node.op in _CONVOLUTIONS:
            kernel = self._turned(weight)
            return np.swapaxes(kernel.reshape(self.groups, kernel.shape[0] // self.groups, -1), 1, 2)
        return (weight.T if self.node.get("transB", 0) else weight)[None]

    def write(self, matrix: Array, offset: Array, params: dict[str, Array]) -> None:
        """Store weights (groups, d, m) and biases (groups, m) in the operator's own layout."""
        old = params[self.weight]
        if self.node.op == "BatchNormalization":  # gain x + offset = scale (x - mean) / deviation + bias
            params[self.weight] = (matrix.reshape(-1) * self._deviation(params)).astype(np.float32)
            params[self.bias] = (offset.reshape(-1) + params[self.node.inputs[3]] * matrix.reshape(-1)).astype(
                np.float32
            )
            return
        if self.node.op in _CONVOLUTIONS:
            new = self._turned(np.swapaxes(matrix, 1, 2).reshape(self._turned(old).shape))
        else:
            new = matrix[0].T if self.node.get("transB", 0) else matrix[0]
        params[self.weight] = np.ascontiguousarray(new, np.float32)
        if self.bias:
            params[self.bias] = offset.reshape(params[self.bias].shape).astype(np.float32)

    def _turned(self, weight: Array) -> Array:
        """A transposed convolution's weight (C, M, *kernel) as the (M, C, *kernel) of a plain one, or back."""
        if self.node.op == "Conv":
            return weight
        return np.flip(np.swapaxes(weight, 0, 1), tuple(range(2, weight.ndim)))

    def _deviation(self, params: Mapping[str, Array]) -> Array:
        return np.asarray(np.sqrt(params[self.node.inputs[4]].astype(np.float64) + self.node.get("epsilon", 1e-5)))

    @property
    def spatial(self) -> bool:
        """Channels stand on axis 1 and positions behind it; otherwise channels come last."""
        return self.node.op in (*_CONVOLUTIONS, "BatchNormalization")

    @property
    def axis(self) -> int:
        """Of the output's channels."""
        return 1 if self.spatial else -1

    def positions(self, out_shape: tuple[int, ...], samples: int, most_rows: int, rng: np.random.Generator) -> Array:
        """Output positions to look at, the same for every sample, so that about ``most_rows`` rows result."""
        places = int(np.prod(out_shape[2:])) if self.spatial else int(np.prod(out_shape[1:-1]))
        count = min(places, max(1, most_rows // samples))
        return np.sort(rng.permutation(places)[:count])

    def input_rows(self, x: Array, params: Mapping[str, Array], positions: Array, out_size: tuple[int, ...]) -> Array:
        """Inputs of the map at some output positions: (groups, R, d), R = samples * positions."""
        if self.node.op == "BatchNormalization":
            return self.output_rows(x, positions)
        if self.node.op not in _CONVOLUTIONS:
            return x.reshape(x.shape[0], -1, x.shape[-1])[:, positions].reshape(1, -1, x.shape[-1])
        kernel = params[self.weight].shape[2:]
        padded, strides = self._padded(x, kernel)
        dilations = self.node.get("dilations", [1] * len(kernel))
        places, taps = np.unravel_index(positions, out_size), np.unravel_index(np.arange(np.prod(kernel)), kernel)
        index = [
            (place * stride)[:, None] + (tap * dilation)[None, :]
            for place, stride, tap, dilation in zip(places, strides, taps, dilations, strict=True)
        ]
        windows = padded[(slice(None), slice(None), *index)]  # (N, C, P, taps)
        rows = windows.transpose(0, 2, 1, 3).reshape(len(x) * len(positions), self.groups, -1)
        return np.ascontiguousarray(rows.transpose(1, 0, 2))

    def _padded(self, x: Array, kernel: tuple[int, ...]) -> tuple[Array, list[int]]:
        """The input (N, C, *spatial) as the windows see it, and the steps from window to window."""
        node, axes = self.node, len(kernel)
        strides = [int(stride) for stride in node.get("strides", [1] * axes)]
        if node.op == "Conv":
            return np.pad(x, [(0, 0), (0, 0), *pads_of(node, x.shape[2:], kernel)]), strides
        spread = np.zeros(
            (*x.shape[:2], *((n - 1) * s + 1 for n, s in zip(x.shape[2:], strides, strict=True))), x.dtype
        )
        spread[(slice(None), slice(None), *(slice(None, None, stride) for stride in strides))] = x
        reach = [(k - 1) * d for k, d in zip(kernel, node.get("dilations", [1] * axes), strict=True)]
        cut, extra = pads_of(node, x.shape[2:], kernel), node.get("output_padding", [0] * axes)
        wide = [(r, r + e) for r, e in zip(reach, extra, strict=True)]
        spread = np.pad(spread, [(0, 0), (0, 0), *wide])
        inner = [slice(a, spread.shape[2 + i] - b) for i, (a, b) in enumerate(cut)]
        return spread[(slice(None), slice(None), *inner)], [1] * axes

    def output_rows(self, y: Array, positions: Array) -> Array:
        """Outputs at the same positions: (groups, R, m)."""
        if not self.spatial:
            return y.reshape(y.shape[0], -1, y.shape[-1])[:, positions].reshape(1, -1, y.shape[-1])
        flat = y.reshape(*y.shape[:2], -1)[:, :, positions]  # (N, M, P)
        rows = flat.transpose(0, 2, 1).reshape(-1, self.groups, y.shape[1] // self.groups)
        return np.ascontiguousarray(rows.transpose(1, 0, 2))


def _states_its_pads(node: Node) -> bool:
    """Whether what a transposed convolution leaves off is written in the node, not found from the sizes in use."""
    return node.get("output_shape") is None and node.get("auto_pad", "NOTSET") in ("NOTSET", "", "VALID")


def _added_bias(node: Node, graph: Graph) -> tuple[str, str]:
    """Bias and output of a matrix product: those of the Add behind it, where that adds a vector of its width."""
    readers = graph.consumers().get(node.outputs[0], [])
    width = graph.initializers[node.inputs[1]].shape[1]
    if len(readers) == 1 and readers[0].op == "Add":
        bias = next((name for name in readers[0].inputs if name in graph.initializers), "")
        if bias and graph.initializers[bias].shape == (width,) and graph.initializers[bias].dtype == np.float32:
            return bias, readers[0].outputs[0]
    return "", node.outputs[0]


@dataclasses.dataclass(frozen=True)
class Moments:
    """Sums over rows: gram (groups, d, d) of centred inputs, cross (groups, d, m), means (groups, d) and (groups, m)."""

    gram: Array
    cross: Array
    mean_x: Array
    mean_y: Array
    rows: int

    @classmethod
    def of(cls, x: Array, y: Array) -> Moments:
        """Second moments of inputs (groups, R, d) and outputs (groups, R, m), per row."""
        rows = x.shape[1]
        mean_x, mean_y = x.mean(1), y.mean(1)
        x, y = x - mean_x[:, None], y - mean_y[:, None]
        if len(x) == 1:  # two-dimensional X'X is a symmetric product in BLAS: half the work
            return cls((x[0].T @ x[0])[None] / rows, (x[0].T @ y[0])[None] / rows, mean_x, mean_y, rows)
        transposed = np.swapaxes(x, 1, 2)
        return cls(transposed @ x / rows, transposed @ y / rows, mean_x, mean_y, rows)

    def with_outputs(self, x: Array, y: Array) -> Moments:
        """Moments of the same inputs (groups, R, d) with other outputs (groups, R, m)."""
        mean_y = y.mean(1)
        cross = np.swapaxes(x, 1, 2) @ (y - mean_y[:, None]) / self.rows
        return dataclasses.replace(self, cross=cross, mean_y=mean_y)

    def of_inputs(self, stays: Array) -> Moments:
        """Moments of some of the inputs, a boolean vector (d,)."""
        if stays.all():
            return self
        gram = self.gram[:, stays][:, :, stays]
        return Moments(gram, self.cross[:, stays], self.mean_x[:, stays], self.mean_y, self.rows)


def ridge(moments: Moments, prior: Array, *, damping: float, intercept: bool) -> tuple[Array, Array]:
    """Least squares pulled towards ``prior``: argmin |Y - X W - b|^2 / R + lambda |W - prior|^2.

    With G = X'X/R and C = X'Y/R: W = (G + lambda I)^-1 (C + lambda prior), lambda = damping * mean diagonal of G.

    Args:
        moments: of inputs and wanted outputs.
        prior: weights (groups, d, m) to stay near where the data say nothing.
        damping: lambda in units of the mean diagonal.
        intercept: fit a bias as well (inputs and outputs are centred).

    Returns:
        Weights (groups, d, m) and biases (groups, m), float64.
    """
    gram, cross = moments.gram.astype(np.float64), moments.cross.astype(np.float64)
    if not intercept:  # moments about zero instead of about the mean
        gram = gram + moments.mean_x[:, :, None] * moments.mean_x[:, None, :]
        cross = cross + moments.mean_x[:, :, None] * moments.mean_y[:, None, :]
    size = gram.shape[1]
    weight = damping * np.trace(gram, axis1=1, axis2=2)[:, None, None] / size + 1e-12
    solution = np.linalg.solve(gram + weight * np.eye(size), cross + weight * prior)
    offset = moments.mean_y - np.einsum("gd,gdm->gm", moments.mean_x, solution)
    return solution, offset if intercept else np.zeros_like(offset)
