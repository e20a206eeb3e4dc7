"""A real service and a real chromium for the tests of the page.

Chromium is looked for on PATH. Where it is missing, these tests skip on a developer's machine and fail in CI.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import requests
from onnx import TensorProto, helper, numpy_helper
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM_ARGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
READY_S = 60


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Where chromium is."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        message = "no chromium on PATH; install it, for example with `apt-get install chromium`"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope="session")
def browser(chromium_path: str) -> Iterator[Browser]:
    """One browser for all tests; every test has its own context."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=CHROMIUM_ARGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def service(chromium_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a running ``secateur up`` with its own data."""
    with running_service(tmp_path_factory.mktemp("service")) as address:
        yield address


@contextlib.contextmanager
def running_service(data_dir: Path, **variables: str) -> Iterator[str]:
    """A ``secateur up`` on `data_dir`, with these environment variables; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "service.cli", "up", "--port", str(port), "--data-dir", str(data_dir)]
    log = data_dir / "up.log"
    environ = {**os.environ, "SECATEUR_CACHE_DIR": str(data_dir / "cache"), **variables}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environ, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_until_ready(address, process, log)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _wait_until_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(5 * READY_S):
        with contextlib.suppress(requests.RequestException):
            if requests.get(f"{address}/readyz", timeout=5).ok:
                return
        if process.poll() is not None:
            break
        time.sleep(0.2)
    raise AssertionError(f"`secateur up` did not become ready:\n{log.read_text(errors='replace')[-4000:]}")


@pytest.fixture
def page(browser: Browser, service: str) -> Iterator[Page]:
    """A fresh page at the service's address; it must have raised no script error when the test is over."""
    with fresh_page(browser, service) as page:
        yield page


@contextlib.contextmanager
def fresh_page(browser: Browser, address: str) -> Iterator[Page]:
    """A page in a context of its own at `address`; it must have raised no script error at the end."""
    context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: _note_policy_violation(message.text, faults))
    yield page
    context.close()
    assert not faults


def _note_policy_violation(text: str, faults: list[str]) -> None:
    if re.search("Content Security Policy", text):
        faults.append(text)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small convolutional network with random weights: 1x8x8 images, 32 and 32 channels, 4 classes in balance."""
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    # Without this bias one class would win on every image, and no pruning could change the accuracy.
    balance = -_scores(_network(np.zeros(4, np.float32)), _images()).mean(axis=0)
    path.write_bytes(_network(balance))
    return path


@pytest.fixture(scope="session")
def dataset(model: Path) -> Path:
    """Random images, labelled by the network itself."""
    path = model.with_name("tiny.npz")
    np.savez(path, x=_images(), y=_scores(model.read_bytes(), _images()).argmax(axis=1))
    return path


def _images() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(600, 1, 8, 8)).astype(np.float32)


def _scores(network: bytes, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": images})[0])


def _network(head_bias: np.ndarray) -> bytes:
    rng = np.random.default_rng(0)
    shapes = {"w1": (32, 1, 3, 3), "b1": (32,), "w2": (32, 32, 3, 3), "b2": (32,), "w3": (4, 32)}
    values = {name: rng.normal(size=shape) / np.sqrt(np.prod(shape[1:])) for name, shape in shapes.items()}
    values["b3"] = head_bias
    weights = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="conv1", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="conv2", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], name="head", transB=1),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 8, 8])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(network.SerializeToString())
