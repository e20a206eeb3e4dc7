"""Two small classifiers of 32x32 images, trained here on CIFAR-10: an inverted-residual network and a vision transformer.

``python -m tests.benchmarks.small_networks --shared DIR --workdir DIR`` trains both on one core in a few minutes each and
keeps the files; a second call finds them there.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import optax
from onnx import numpy_helper

from search.graph.ir import Array, Graph
from search.graph.proto import to_graph
from search.graph.run.execute import apply_node
from tests.search.graph.nets import Net, run_ort

CLASSES, SIDE, BATCH = 10, 32, 64
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
STATISTICS_MOMENTUM = 0.95
STEPS = {"mobilenet": 800, "vit": 1000}
STAGES = ((1, 16, 1, 1), (4, 24, 2, 1), (4, 40, 2, 2), (4, 64, 2, 2), (4, 96, 1, 1))
"""Expansion, channels, blocks and stride of each stage of the inverted-residual network, as in MobileNetV2's table 2."""


def mobilenet(side: int = SIDE) -> Net:
    """Stem 3x3 stride 2, inverted residuals with batch norms, 1x1 head, mean over the image, one fully connected layer."""
    net = Net(("N", 3, side, side))
    norm = functools.partial(_norm, net)
    x, c_in = norm(net.conv("x", 3, 16, stride=2), 16), 16
    for expansion, width, blocks, stride in STAGES:
        for block in range(blocks):
            y, hidden = x, expansion * c_in
            if expansion > 1:
                y = norm(net.conv(y, c_in, hidden, 1), hidden)
            y = norm(net.conv(y, hidden, hidden, groups=hidden, stride=1 if block else stride), hidden)
            y = norm(net.conv(y, hidden, width, 1), width, activation=False)
            x = net.op("Add", y, x) if block and width == c_in else y
            c_in = width
    x = norm(net.conv(x, c_in, 192, 1), 192)
    net.classifier(x, 192, CLASSES)
    return net


def _norm(net: Net, x: str, channels: int, *, activation: bool = True) -> str:
    values = (np.ones(channels), np.zeros(channels), np.zeros(channels), np.ones(channels))
    y = net.op("BatchNormalization", x, *[net.constant(value, np.float32) for value in values])
    return net.op("Relu", y) if activation else y


def vit(*, patch: int = 4, width: int = 64, depth: int = 4, heads: int = 4, mlp: int = 256) -> Net:
    """Patches, learned positions, pre-norm attention and MLP blocks, mean over the tokens, one fully connected layer."""
    net, tokens = Net(("N", 3, SIDE, SIDE)), (SIDE // patch) ** 2
    kernel = (net.weight(width, 3, patch, patch), net.constant(np.zeros(width), np.float32))
    x = net.op("Conv", "x", *kernel, kernel_shape=[patch, patch], strides=[patch, patch])
    x = net.op("Transpose", net.op("Reshape", x, net.constant([0, width, tokens])), perm=[0, 2, 1])
    x = net.op("Add", x, net.constant(net.random.normal(0, 0.02, (1, tokens, width)), np.float32))
    for _ in range(depth):
        x = net.op("Add", _attention(net, _layer_norm(net, x, width), tokens, width, heads), x)
        hidden = net.op("Relu", _linear(net, _layer_norm(net, x, width), width, mlp))
        x = net.op("Add", _linear(net, hidden, mlp, width), x)
    x = net.op("ReduceMean", _layer_norm(net, x, width), axes=[1], keepdims=0)
    net.gemm(x, width, CLASSES)
    return net


def _attention(net: Net, x: str, tokens: int, width: int, heads: int) -> str:
    def split(y: str, perm: list[int]) -> str:
        return net.op("Transpose", net.op("Reshape", y, net.constant([0, tokens, heads, width // heads])), perm=perm)

    query, key, value = (
        split(_linear(net, x, width, width), perm) for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
    )
    scale = net.constant((width // heads) ** -0.5, np.float32)
    scores = net.op("Softmax", net.op("Mul", net.op("MatMul", query, key), scale), axis=-1)
    mixed = net.op("Transpose", net.op("MatMul", scores, value), perm=[0, 2, 1, 3])
    return _linear(net, net.op("Reshape", mixed, net.constant([0, tokens, width])), width, width)


def _linear(net: Net, x: str, c_in: int, c_out: int) -> str:
    weight = net.constant(net.random.normal(0, c_in**-0.5, (c_in, c_out)), np.float32)
    return net.op("Add", net.op("MatMul", x, weight), net.constant(np.zeros(c_out), np.float32))


def _layer_norm(net: Net, x: str, width: int) -> str:
    values = (net.constant(np.ones(width), np.float32), net.constant(np.zeros(width), np.float32))
    return net.op("LayerNormalization", x, *values, axis=-1)


BUILDERS: dict[str, Callable[[], Net]] = {"mobilenet": mobilenet, "vit": vit}


def forward(graph: Graph, params: Mapping[str, Any], x: Any) -> tuple[Any, dict[str, Any]]:
    """Logits in training mode, and the batch statistics that its norms saw, by the name of the running ones."""
    values: dict[str, Any] = {**graph.initializers, **params, "x": x}
    statistics: dict[str, Any] = {}
    for node in graph.nodes:
        if node.op == "BatchNormalization":
            y = values[node.inputs[0]]
            statistics[node.inputs[3]], statistics[node.inputs[4]] = y.mean((0, 2, 3)), y.var((0, 2, 3))
            values.update({name: statistics[name] for name in node.inputs[3:5]})
        outputs = apply_node(node, [values[name] if name else None for name in node.inputs], graph.opset)
        values.update(zip(node.outputs, outputs, strict=False))
    return values[graph.outputs[0].name], statistics


def train(model: onnx.ModelProto, images: Array, labels: Array, steps: int, *, seed: int = 0) -> onnx.ModelProto:
    """Cross-entropy with crops and flips, AdamW, cosine schedule; running statistics are averaged over the last steps."""
    graph = to_graph(model, {"": model.opset_import[0].version})
    running = {name for node in graph.nodes if node.op == "BatchNormalization" for name in node.inputs[3:5]}
    moving = {
        name: jnp.asarray(value)
        for name, value in graph.initializers.items()
        if value.dtype == np.float32 and value.ndim and name not in running
    }
    schedule = optax.warmup_cosine_decay_schedule(0, 3e-3, steps // 10, steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.02))

    @jax.jit
    def step(params: Any, state: Any, averages: Any, x: Any, y: Any) -> Any:
        def loss(params: Any) -> Any:
            with jax.numpy_rank_promotion("allow"):
                logits, seen = forward(graph, params, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), seen

        gradient, seen = jax.grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(gradient, state, params)
        keep = STATISTICS_MOMENTUM
        averages = {name: keep * averages[name] + (1 - keep) * seen[name] for name in averages}
        return optax.apply_updates(params, updates), state, averages

    state, averages = optimizer.init(moving), {name: jnp.asarray(graph.initializers[name]) for name in running}
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        index = rng.integers(0, len(images), BATCH)
        x = jnp.asarray(augmented(images[index], rng))
        moving, state, averages = step(moving, state, averages, x, jnp.asarray(labels[index]))
    trained = {name: np.asarray(value) for name, value in {**moving, **averages}.items()}
    for tensor in model.graph.initializer:
        if tensor.name in trained:
            tensor.CopyFrom(numpy_helper.from_array(trained[tensor.name], tensor.name))
    return model


def augmented(images: Array, rng: np.random.Generator) -> Array:
    """Crops of the padded images, half of them mirrored; (N, 3, 32, 32)."""
    padded = np.pad(images, [(0, 0), (0, 0), (4, 4), (4, 4)])
    down, right = rng.integers(0, 9, (2, len(images)))
    crops = np.stack([p[:, d : d + SIDE, r : r + SIDE] for p, d, r in zip(padded, down, right, strict=True)])
    mirrored = rng.random(len(images)) < 0.5
    crops[mirrored] = crops[mirrored, :, :, ::-1]
    return crops


def read(path: Path) -> tuple[Array, Array]:
    """Images (N, 3, 32, 32) scaled and normalised, and labels (N,)."""
    with np.load(path) as stored:
        x, y = stored["x"].astype(np.float32) / 255, stored["y"].astype(np.int64)
    return np.ascontiguousarray(((x - MEAN) / DEVIATION).transpose(0, 3, 1, 2)), y


def trained(name: str, shared: Path, workdir: Path) -> Path:
    """The network's file, trained if it is not there yet."""
    path = workdir / f"{name}.onnx"
    if not path.exists():
        images, labels = read(shared / "data" / "cifar10_train20k.npz")
        model = train(BUILDERS[name]().proto(), images, labels, STEPS[name])
        workdir.mkdir(parents=True, exist_ok=True)
        path.write_bytes(model.SerializeToString())
    return path


def main() -> None:
    """Train what is missing; print accuracy on test images and the time it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--workdir", type=Path, default=Path("out/networks"))
    parser.add_argument("--network", action="append", choices=sorted(BUILDERS))
    arguments = parser.parse_args()
    images, labels = read(arguments.shared / "data" / "cifar10_test_jpeg4k.npz")
    for name in arguments.network or BUILDERS:
        start = time.monotonic()
        path = trained(name, arguments.shared, arguments.workdir)
        hits = run_ort(path.read_bytes(), {"x": images})[0].argmax(1) == labels
        print(f"{name:10} {100 * hits.mean():5.1f} % of {len(labels)} test images, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
