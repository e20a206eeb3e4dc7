"""The demonstration's own network and its referee. A script: the product never trains, and never imports this.

``python -m search.demo train DIR`` trains a CNN on scikit-learn's handwritten digits (real scans, 8 x 8, with a little
noise) and leaves in DIR: model.onnx, data.npz for the job, and unseen.npz, which neither training nor the job sees.
``python -m search.demo measure DIR DENSE PRUNED`` compares two models in ONNX Runtime alone.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import optax
from flax import nnx
from numpy.typing import NDArray

_WIDTHS = (48, 64, 96, 96)
_EPOCHS, _BATCH, _LEARNING_RATE = 24, 50, 2e-3
_NOISE = 0.33  # of full ink; on clean scans the narrowest network is as good as any, and a front is one point
_TRAINING, _JOB = 800, 700  # the rest, 297 digits, stays unseen
_DRAWS = 8  # of noise over each unseen digit: one draw over 297 digits tells no difference below two points
_ROUNDS, _INFERENCES = 25, 20


class DigitNet(nnx.Module):
    """Four convolutions and a linear layer; too large for its task. Takes (batch, 8, 8, 1), gives (batch, 10)."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        pairs = list(itertools.pairwise((1, *_WIDTHS)))
        self.convolutions = nnx.List([nnx.Conv(a, b, (3, 3), rngs=rngs) for a, b in pairs])
        self.head = nnx.Linear(_WIDTHS[-1], 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits."""
        for i, convolution in enumerate(self.convolutions):
            x = nnx.relu(convolution(x))
            if i in {1, 2}:
                x = nnx.max_pool(x, window_shape=(2, 2), strides=(2, 2))  # type: ignore[no-untyped-call]
        return self.head(x.mean(axis=(1, 2)))


def train(directory: Path, seed: int = 0) -> float:
    """Train, export, and divide the digits; the accuracy on the unseen ones."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - only the demonstration has it

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    x = (images[order].reshape(-1, 8, 8, 1) / 16).astype(np.float32)
    clean, x = x, _noisy(x, np.random.default_rng(seed + 2))
    y = labels[order].astype(np.int64)
    network = DigitNet(rngs=nnx.Rngs(seed))
    _fit(network, clean[:_TRAINING], y[:_TRAINING], seed)
    directory.mkdir(parents=True, exist_ok=True)
    _export(network, directory / "model.onnx")
    nchw = x.transpose(0, 3, 1, 2)
    end = _TRAINING + _JOB
    np.savez(directory / "data.npz", x=nchw[_TRAINING:end], y=y[_TRAINING:end])
    unseen = _noisy(np.tile(clean[end:], (_DRAWS, 1, 1, 1)), np.random.default_rng(seed + 3))
    np.savez(directory / "unseen.npz", x=unseen.transpose(0, 3, 1, 2), y=np.tile(y[end:], _DRAWS))
    return float((network(jnp.asarray(x[end:])).argmax(-1) == y[end:]).mean())


def _fit(network: DigitNet, x: NDArray[np.float32], y: NDArray[np.int64], seed: int) -> None:
    steps = _EPOCHS * (len(y) // _BATCH)
    optimizer = nnx.Optimizer(network, optax.adamw(optax.cosine_decay_schedule(_LEARNING_RATE, steps)), wrt=nnx.Param)

    def loss(network: DigitNet, x: jax.Array, y: jax.Array) -> jax.Array:
        mean: jax.Array = optax.softmax_cross_entropy_with_integer_labels(network(x), y).mean()
        return mean

    @nnx.jit
    def step(network: DigitNet, optimizer: nnx.Optimizer[DigitNet], x: jax.Array, y: jax.Array) -> None:
        optimizer.update(network, nnx.grad(loss)(network, x, y))

    draw = np.random.default_rng(seed + 1)
    for _ in range(_EPOCHS):
        for batch in draw.permutation(len(y)).reshape(-1, _BATCH):
            # A digit moved by a pixel is the same digit: more data for free.
            down, right = draw.integers(0, 3, 2)
            moved = np.pad(x[batch], ((0, 0), (1, 1), (1, 1), (0, 0)))[:, down : down + 8, right : right + 8]
            step(network, optimizer, jnp.asarray(_noisy(moved, draw)), jnp.asarray(y[batch]))


def _noisy(x: NDArray[np.float32], draw: np.random.Generator) -> NDArray[np.float32]:
    """The scans as a poor sensor sees them."""
    return x + draw.normal(0, _NOISE, x.shape).astype(np.float32)


def _export(network: DigitNet, path: Path) -> None:
    import jax2onnx  # noqa: PLC0415 - only the demonstration has it

    jax2onnx.to_onnx(
        network,
        [("batch", 8, 8, 1)],
        model_name="digits",
        return_mode="file",
        output_path=str(path),
        inputs_as_nchw=[0],
        input_names=["image"],
        output_names=["logits"],
    )


def measure(directory: Path, dense: Path, pruned: Path) -> dict[str, float]:
    """Accuracy on the unseen digits and speed of both models, by ONNX Runtime alone.

    Args:
        directory: where unseen.npz is.
        dense: the model as trained.
        pruned: the model to compare.

    Returns:
        ``dense_accuracy``, ``pruned_accuracy`` (fractions), ``change_error`` of their difference (its standard error: the draws
        of noise over one digit are not independent, so digits are counted), ``dense_ms``, ``pruned_ms`` (thread CPU time of one
        inference at batch 1) and ``speedup``: the median over rounds, dense and pruned taking turns.
    """
    with np.load(directory / "unseen.npz") as unseen:
        x, y = unseen["x"], unseen["y"]
    sessions = [_session(path) for path in (dense, pruned)]
    hits = [_run(session, x).argmax(-1) == y for session in sessions]
    by_digit = (hits[1].astype(float) - hits[0]).reshape(_DRAWS, -1).mean(0)
    rounds = [[_inference_s(session, x[:1]) for session in sessions] for _ in range(_ROUNDS)]
    dense_s, pruned_s = (statistics.median(times) for times in zip(*rounds, strict=True))
    return {
        "dense_accuracy": float(hits[0].mean()),
        "pruned_accuracy": float(hits[1].mean()),
        "change_error": float(by_digit.std(ddof=1) / np.sqrt(len(by_digit))),
        "dense_ms": 1e3 * dense_s,
        "pruned_ms": 1e3 * pruned_s,
        "speedup": statistics.median(dense_s / pruned_s for dense_s, pruned_s in rounds),
        "unseen": len(y),
    }


def _session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # so that thread CPU time is all of the time
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _run(session: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
    output: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: x})[0]
    return output


def _inference_s(session: Any, x: NDArray[np.float32]) -> float:
    _run(session, x)  # warm
    start = time.thread_time()
    for _ in range(_INFERENCES):
        _run(session, x)
    return (time.thread_time() - start) / _INFERENCES


def main(arguments: list[str]) -> None:
    """Do as told; the result is a JSON object on the last line of stdout."""
    command, directory, *models = arguments
    folder, paths = Path(directory), map(Path, models)
    result = {"unseen_accuracy": train(folder)} if command == "train" else measure(folder, *paths)
    print(json.dumps(result))  # noqa: T201 - the answer of a script


if __name__ == "__main__":
    main(sys.argv[1:])
