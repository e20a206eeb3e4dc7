"""Files that cannot be read are refused with a typed error that says what was found."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from search.graph.onnx import read
from search.wire.errors import ExternalDataRefused, InvalidModel, UnsupportedOperator, UnsupportedOpset
from tests.search.graph.nets import Net, resnet


def test_an_empty_file_is_refused() -> None:
    """Zero bytes parse as a valid protobuf, so emptiness is checked by itself."""
    with pytest.raises(InvalidModel, match="empty"):
        read.load(b"")


def test_a_png_is_recognised() -> None:
    """The message says that the file is an image."""
    with pytest.raises(InvalidModel, match="PNG"):
        read.load(b"\x89PNG\r\n\x1a\n" + bytes(100))


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_a_truncated_file_is_refused(share: float) -> None:
    """However much of a file is missing, the error is InvalidModel."""
    data = resnet().bytes()
    with pytest.raises(InvalidModel):
        read.load(data[: int(len(data) * share)])


def test_external_data_are_refused() -> None:
    """Weights outside the file are refused before anything opens a path."""
    model = resnet().proto()
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    model.graph.initializer[0].external_data.add(key="location", value="../../etc/passwd")
    with pytest.raises(ExternalDataRefused) as caught:
        read.load(model.SerializeToString())
    assert caught.value.fields["tensor"] == model.graph.initializer[0].name


def test_external_data_in_a_constant_are_refused() -> None:
    """Tensors in attributes count as much as initializers."""
    net = Net()
    tensor = helper.make_tensor("t", TensorProto.FLOAT, [1], [1.0])
    tensor.data_location = TensorProto.EXTERNAL
    net.op("Add", "x", net.op("Constant", value=tensor))
    with pytest.raises(ExternalDataRefused):
        read.load(net.bytes())


@pytest.mark.parametrize("domain", ["", "my.company"])
def test_an_unknown_operator_is_named_with_its_node(domain: str) -> None:
    """The refusal carries node and operator as fields."""
    net = Net()
    net.op("Frobnicate", "x", domain=domain)
    with pytest.raises(UnsupportedOperator) as caught:
        read.load(net.bytes())
    assert caught.value.fields["node"] == "n_frobnicate0"
    assert "Frobnicate" in caught.value.fields["operator"]


@pytest.mark.parametrize("version", [0, 9999])
def test_opsets_outside_the_range_are_refused(version: int) -> None:
    """Older than what we read, or newer than what the installed onnx knows."""
    model = resnet().proto()
    model.opset_import[0].version = version
    with pytest.raises(UnsupportedOpset) as caught:
        read.load(model.SerializeToString())
    assert caught.value.fields["found"] == version


def test_a_lying_initializer_is_refused() -> None:
    """Dimensions that do not match the stored bytes."""
    model = resnet().proto()
    model.graph.initializer[0].dims[0] = 1_000_000
    with pytest.raises(InvalidModel):
        read.load(model.SerializeToString())


def test_a_cycle_is_refused() -> None:
    """Nodes must be in topological order."""
    net = Net()
    net.op("Add", "x", "add1")
    net.op("Add", "add0", "x")
    graph = helper.make_graph(net.nodes, "g", net.inputs, [onnx.ValueInfoProto(name="add1")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    with pytest.raises(InvalidModel):
        read.load(model.SerializeToString())


def test_inputs_keep_names_shapes_and_types() -> None:
    """The batch stays a name; the element type is numpy's."""
    (info,) = read.load(resnet().bytes()).inputs
    assert info.shape == ("N", 3, 8, 8)
    assert info.dtype == np.float32
