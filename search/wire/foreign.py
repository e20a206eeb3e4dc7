"""Files of other frameworks, told by their first bytes and members, each with the sentence that leads to an ONNX file."""

from __future__ import annotations

from collections.abc import Collection

_TORCH = "a PyTorch file; in Python: `torch.onnx.export(model.eval(), (example,), 'model.onnx', dynamo=True)`"
_KERAS = "a Keras file; in Python: `keras.models.load_model(FILE).export('model.onnx', format='onnx')`"
_TENSORFLOW = "a TensorFlow model; `python -m tf2onnx.convert --saved-model DIRECTORY --output model.onnx`"
_MEMBERS = {"data.pkl": _TORCH, "model.weights.h5": _KERAS, "saved_model.pb": _TENSORFLOW}
_STARTS = {
    b"\x89HDF": _KERAS,
    b"\x80\x02": f"a pickle, as PyTorch writes: {_TORCH}",
    b"\x80\x04": "a pickle; if a scikit-learn model is in it, `skl2onnx.to_onnx(model, samples)` makes an ONNX file of it",
    b"<?xml": "an OpenVINO or other XML file; export the network that it was made from as ONNX",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8": "a JPEG image",
}
_LITERT, _LITERT_AT = b"TFL3", slice(4, 8)
_WEIGHTS_AT = slice(8, 10)


def foreign(head: bytes, members: Collection[str] = ()) -> str | None:
    """What a file is, in words, and how to get an ONNX file of it; None where that cannot be told.

    Args:
        head: its first bytes.
        members: names in it, where it is a zip archive.
    """
    for name, words in _MEMBERS.items():
        if any(member.rsplit("/", 1)[-1] == name for member in members):
            return words
    if head[_LITERT_AT] == _LITERT:
        return "a LiteRT file (.tflite); export the network that it was made from as ONNX"
    if head[_WEIGHTS_AT] == b'{"':
        return f"a safetensors file, weights without a network; export the network: {_TORCH.partition('; ')[2]}"
    return next((words for start, words in _STARTS.items() if head.startswith(start)), None)
