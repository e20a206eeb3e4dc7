"""Whoever uploads another framework's file is told what it is and what to do."""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import pytest

from search.graph.onnx.read import load
from search.wire.errors import InvalidModel
from search.wire.foreign import foreign


def archive(*names: str) -> bytes:
    """A zip file with such members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name in names:
            made.writestr(name, b"x")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (archive("resnet/data.pkl", "resnet/data/0"), "torch.onnx.export"),
        (archive("metadata.json", "config.json", "model.weights.h5"), "keras.models.load_model"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "keras.models.load_model"),
        (b"\x1c\0\0\0TFL3" + bytes(99), "LiteRT"),
        (pickle.dumps({"a": np.zeros(3)}, protocol=2), "PyTorch"),
        (pickle.dumps({"a": np.zeros(3)}, protocol=4), "skl2onnx"),
        (b"\x40\0\0\0\0\0\0\0" + b'{"w":{"dtype":"F32"}}', "safetensors"),
        (archive("saved_model.pb"), "tf2onnx"),
        (archive("notes.txt"), "zip archive"),
        (b"hi", "2 bytes"),
    ],
)
def test_files_of_others(data: bytes, words: str) -> None:
    """By their own first bytes, or the members that their writers always put in."""
    with pytest.raises(InvalidModel, match=words.replace(".", r"\.")):
        load(data)


def test_what_nobody_knows_is_not_named() -> None:
    """No guess."""
    assert foreign(b"something else entirely") is None
