"""Files in the format of the target's runtime: LiteRT computes what the ONNX file does, or it is said why there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwprofiles.registry import load_profile
from search.formats import FORMATS
from search.graph.onnx.read import load
from search.graph.upload import Upload
from search.input.data import Part
from search.input.sample_axes import find_samples
from search.judge.metrics.base import Quality
from search.judge.metrics.hits import TOP1
from search.measure.runtimes import RUNTIMES
from search.results.formats import write
from search.results.points import File
from search.wire.progress import Progress
from search.wire.request import JobSpec
from tests.search.graph.nets import Net, images

PHONE, SERVER = (load_profile(name) for name in ("pixel4-1small-tflite-fp32", "host-cpu-onnxruntime"))
PATH = "points/phone/p01.onnx"
X = images(12, 3, 8, 8)


def network(last: str = "Relu") -> bytes:
    """A convolution, an activation, a classifier; takes any number of images."""
    net = Net(("N", 3, 8, 8))
    x = net.op(last, net.conv("x", 3, 8))
    net.classifier(x, 8)
    return net.bytes()


def written(folder: Path, model: bytes, profile: object = PHONE) -> tuple[list[str], Progress]:
    """Names of what is there afterwards, and who was warned."""
    upload, progress = Upload(model), Progress(None)
    found = find_samples(upload, JobSpec(), {"x": X})
    same = Quality(np.ones(4), TOP1)
    (folder / PATH).parent.mkdir(parents=True)
    write(
        folder,
        {PATH: File(model, "sha", 0.0, same, same, 1, 1, (), ())},
        profile,
        found,
        Part({"x": X}, None),
        progress,
    )  # type: ignore[arg-type]
    return sorted(path.name for path in (folder / PATH).parent.iterdir()), progress


def test_a_phone_gets_a_file_that_computes_the_same(tmp_path: Path) -> None:
    """The file loads in LiteRT and gives what ONNX Runtime gives for the ONNX one; images are channels last."""
    model = network()
    names, progress = written(tmp_path, model)
    assert names == ["p01.tflite"]
    assert not progress.warnings
    call = RUNTIMES["litert"].call(
        (tmp_path / PATH).with_suffix(".tflite").read_bytes(), {"x": np.moveaxis(X[:1], 1, -1)}, 1
    )
    (info,) = load(model).outputs
    assert info.shape[-1] == call()[0].shape[-1]
    assert np.allclose(call()[0], RUNTIMES["onnxruntime"].call(model, {"x": X[:1]}, 1)()[0], atol=1e-5)


def test_others_get_no_further_file(tmp_path: Path) -> None:
    """What loads ONNX has it already."""
    assert written(tmp_path, network(), SERVER)[0] == []


def test_an_operator_that_the_format_lacks_is_named(tmp_path: Path) -> None:
    """That file is left out, the job goes on."""
    names, progress = written(tmp_path, network("Softsign"))
    assert names == []
    assert "pixel4-1small-tflite-fp32: no .tflite file of p01" in progress.warnings[0]
    assert "Softsign" in progress.warnings[0]


def test_a_file_that_computes_something_else_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a thousandth of the largest output is no rounding."""
    right = type(FORMATS["tflite"]).taken
    monkeypatch.setattr(type(FORMATS["tflite"]), "taken", lambda self, value: 1.002 * right(self, value))
    names, progress = written(tmp_path, network())
    assert names == []
    assert "differs by 2" in progress.warnings[0]


def test_without_its_library_a_format_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence can be pasted."""
    monkeypatch.setattr(type(FORMATS["tflite"]), "module", "no_such_module")
    assert "pip install 'secateur[litert]'" in written(tmp_path, network())[1].warnings[0]
