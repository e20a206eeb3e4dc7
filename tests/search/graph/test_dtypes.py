"""Half-precision weights stay as they are; weights beside the file are read from trusted paths only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from search.graph.edit.patch import patch
from search.graph.onnx import read, write
from search.graph.run import execute
from search.graph.upload import Upload
from search.space import surgery
from search.wire.errors import ExternalDataRefused, InvalidModel
from tests.search.graph.nets import images, relative_error, resnet, run_ort
from tests.search.space.laws import couple, keep_some

HALF: dict[str, tuple[int, Any, float]] = {
    "float16": (TensorProto.FLOAT16, np.float16, 2e-3),
    "bfloat16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16, 2e-2),
}
"""Type of the file, of numpy, and some ten roundings of it."""


def _half(element: int, dtype: Any) -> bytes:
    """A residual network in a half-precision type throughout."""
    model = resnet().proto()
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(value.astype(dtype), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = element
    del model.graph.value_info[:]
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("name", HALF)
def test_half_precision_stays_in_the_file(name: str) -> None:
    """Weights keep their type through import, cut and export, and the network computes what its float32 twin does."""
    element, dtype, tolerance = HALF[name]
    graph = read.load(_half(element, dtype))
    found = couple(graph)
    keep = keep_some(found)
    smaller = surgery.cut(graph, found, keep)
    written = onnx.load_from_string(patch(graph, smaller, surgery.kept_positions(found, keep)).model)
    weights = [tensor for tensor in written.graph.initializer if tensor.data_type != TensorProto.INT64]
    assert {tensor.data_type for tensor in weights} == {element}
    assert sum(np.prod(tensor.dims) for tensor in weights) < sum(v.size for v in graph.initializers.values())
    x = images(2, 3, 8, 8)
    parameters = {key: graph.initializers[key] for key in execute.trainable(graph)}
    (y,) = execute.Engine(graph, batch=2)(parameters, {"x": x})
    assert y.dtype == np.float32
    assert relative_error([y], run_ort(resnet().bytes(), {"x": x})) < tolerance


def test_weights_beside_the_file(tmp_path: Path) -> None:
    """Written in two files and read with both it is the same network; alone, or without its data file, it is refused by name."""
    onnx.save_model(
        resnet().proto(),
        str(tmp_path / "split.onnx"),
        save_as_external_data=True,
        location="split.onnx.data",
        size_threshold=0,
    )
    feeds = {"x": images(2, 3, 8, 8)}
    graph = read.load(Upload.read(tmp_path / "split.onnx"))
    assert relative_error(run_ort(write.export(graph), feeds), run_ort(resnet().bytes(), feeds)) < 1e-6
    with pytest.raises(ExternalDataRefused):
        read.load((tmp_path / "split.onnx").read_bytes())
    (tmp_path / "split.onnx.data").unlink()
    with pytest.raises(InvalidModel, match=r"split\.onnx\.data"):
        Upload.read(tmp_path / "split.onnx")
