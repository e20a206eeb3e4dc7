"""Data sets: opened carefully, matched to the model, divided without overlap."""

from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from search.graph.ir import Graph
from search.graph.onnx.read import load
from search.graph.sampling import Sampling
from search.input import data
from search.judge.dense import understood
from search.wire.errors import DatasetShapeMismatch, InvalidDataset, ResourceLimit, SecateurError
from tests.search.graph.nets import Net, resnet


@pytest.fixture(scope="module")
def graph() -> Graph:
    """A network of one input (N, 3, 8, 8) and five classes."""
    return load(resnet().bytes())


def npz(path: Path, **arrays: object) -> Path:
    """An .npz with these arrays."""
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    """A .npy header that declares a shape, and no data."""
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def archive(path: Path, *members: tuple[str, bytes]) -> Path:
    """A zip with these members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def good(n: int = 20) -> dict[str, np.ndarray]:
    """A data set that fits."""
    rng = np.random.default_rng(0)
    return {"x": rng.normal(size=(n, 3, 8, 8)).astype(np.float32), "y": rng.integers(0, 5, n)}


def test_good_data_set(tmp_path: Path, graph: Graph) -> None:
    """Arrays come back as they were written."""
    arrays = good()
    part = understood(data.check(data.read_npz(npz(tmp_path / "d.npz", **arrays)), graph), graph)
    assert np.array_equal(part.feeds["x"], arrays["x"])
    assert part.labels is not None
    assert np.array_equal(part.labels, arrays["y"])


@pytest.mark.parametrize(
    ("arrays", "error", "words"),
    [
        ({"y": np.zeros(20, int)}, InvalidDataset, "not `x`"),
        ({"x": np.zeros((0, 3, 8, 8), np.float32)}, InvalidDataset, "0 samples"),
        ({"x": np.zeros((20, 8, 8, 3), np.float32)}, DatasetShapeMismatch, r"\['N', 3, 8, 8\]"),
        ({"x": np.full((20, 3, 8, 8), np.nan, np.float32)}, InvalidDataset, "not finite"),
        ({**good(), "y": np.full(20, 5)}, InvalidDataset, "0 to 4"),
        ({**good(), "y": np.full(20, -1)}, InvalidDataset, "-1"),
        ({**good(), "y": np.zeros(19, int)}, InvalidDataset, "different numbers"),
    ],
)
def test_bad_arrays(
    tmp_path: Path, graph: Graph, arrays: dict[str, np.ndarray], error: type[SecateurError], words: str
) -> None:
    """Each fault is named."""
    with pytest.raises(error, match=words):
        understood(data.check(data.read_npz(npz(tmp_path / "d.npz", **arrays)), graph), graph)


def test_pickled_objects_are_not_opened(tmp_path: Path) -> None:
    """An object array would run code when it is loaded."""
    objects = np.array([{"a": 1}, None], dtype=object)
    with pytest.raises(InvalidDataset, match="pickles"):
        data.read_npz(npz(tmp_path / "d.npz", x=objects))


def test_declared_terabytes_are_refused_before_allocation(tmp_path: Path) -> None:
    """A header of a hundred bytes may not ask for ten terabytes."""
    path = archive(tmp_path / "d.npz", ("x.npy", header((10**12, 10))))
    with pytest.raises(ResourceLimit, match="40000000000000"):
        data.read_npz(path)


def test_truncated_member(tmp_path: Path) -> None:
    """A header that declares more than the member holds."""
    with pytest.raises(InvalidDataset, match="truncated"):
        data.read_npz(archive(tmp_path / "d.npz", ("x.npy", header((100, 10)))))


def test_duplicate_members(tmp_path: Path) -> None:
    """Two arrays of one name contradict each other."""
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    with pytest.warns(UserWarning, match="Duplicate"):
        path = archive(tmp_path / "d.npz", ("x.npy", buffer.getvalue()), ("x.npy", buffer.getvalue()))
    with pytest.raises(InvalidDataset, match="two members"):
        data.read_npz(path)


def test_not_a_zip(tmp_path: Path) -> None:
    """Any other file is refused in words."""
    path = tmp_path / "d.npz"
    path.write_bytes(b"hello")
    with pytest.raises(InvalidDataset, match=r"numpy\.savez"):
        data.read_npz(path)


def test_an_archive_cut_or_changed_anywhere_is_refused_in_words(tmp_path: Path) -> None:
    """Each byte of an archive flipped, and each length of it: read as it is, or refused with a typed error."""
    whole = npz(tmp_path / "d.npz", x=np.zeros((2, 3), np.float32)).read_bytes()
    changed = [bytes(b ^ 0x80 if i == at else b for i, b in enumerate(whole)) for at in range(len(whole))]
    for content in [*changed, *(whole[:length] for length in range(0, len(whole), 7))]:
        path = tmp_path / "bad.npz"
        path.write_bytes(content)
        with contextlib.suppress(SecateurError):
            assert set(data.read_npz(path)) <= {"x"} or content in changed


def test_a_header_may_not_be_a_bomb(tmp_path: Path) -> None:
    """A header that claims 64 MiB, which compress to nothing, is not read to its end."""
    claimed = 1 << 26
    text = b"\x93NUMPY\x02\x00" + claimed.to_bytes(4, "little") + b" " * claimed
    path = tmp_path / "d.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x.npy", text)
    tracemalloc.start()
    with pytest.raises(InvalidDataset, match="not a numpy array"):
        data.read_npz(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 23


def test_several_inputs_go_by_name() -> None:
    """A model of two inputs takes arrays named as the inputs."""
    net = Net()
    net.inputs.append(Net().inputs[0])
    net.inputs[1].name = "z"
    graph = load(net.bytes(net.op("Add", "x", "z")))
    x = np.zeros((9, 3, 8, 8), np.float32)
    assert set(data.check({"x": x, "z": x}, graph).feeds) == {"x", "z"}
    with pytest.raises(InvalidDataset, match="`z`"):
        data.check({"x": x}, graph)


def sequences(sampling: Sampling) -> Graph:
    """A network of one input (T, N, 6)."""
    net = Net(("T", "N", 6))
    net.gemm(net.op("ReduceMean", "x", axes=[0], keepdims=0), 6, 3)
    return load(net.bytes()).replace(sampling=sampling)


@pytest.mark.parametrize("shape", [(30, 20, 6), (20, 30, 6)])
def test_arrays_may_be_as_the_model_takes_them_where_labels_tell(shape: tuple[int, ...]) -> None:
    """Thirty labels: thirty samples of twenty steps, however they lie."""
    graph = sequences(Sampling({"x": 1}, {"gemm1": 0}))
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    part = data.check({"x": x, "y": np.arange(30) % 3}, graph)
    assert part.feeds["x"].shape == (30, 20, 6)
    assert np.array_equal(part.feeds["x"][7], x[7] if shape[0] == 30 else x[:, 7])


def test_a_refusal_says_which_axis_is_the_samples() -> None:
    """What to write, and where the model itself has them."""
    graph = sequences(Sampling({"x": 1}, {"gemm1": 0}))
    with pytest.raises(InvalidDataset, match=r"different numbers.*\['N', '\?', 6\]"):
        data.check({"x": np.zeros((25, 20, 6), np.float32), "y": np.zeros(30, int)}, graph)
    with pytest.raises(DatasetShapeMismatch, match="the model has them on axis 1"):
        data.check({"x": np.zeros((25, 20, 7), np.float32)}, graph)


def recurrent() -> Graph:
    """Input x (N, 6), a state (2, N, 6) that comes back, a rate without an axis."""
    net = Net(("N", 6))
    net.inputs.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, [2, "N", 6]))
    net.inputs.append(helper.make_tensor_value_info("rate", TensorProto.FLOAT, []))
    new = net.op("Add", net.op("Mul", "x", "rate"), "h")
    scores = net.gemm(net.op("ReduceMax", new, axes=[0], keepdims=0), 6, 3)
    return load(net.bytes(scores, new)).replace(sampling=Sampling({"x": 0, "h": 1, "rate": None}, {scores: 0, new: 1}))


def test_a_state_that_is_not_given_is_zero_and_a_rate_is_for_all_samples() -> None:
    """A state may be left out, a rate may not; one that is given is taken."""
    graph, x = recurrent(), np.ones((9, 6), np.float32)
    part = data.check({"x": x, "rate": np.float32(16.0)}, graph)
    assert not part.feeds["h"].any()
    assert part.feeds["h"].shape == (9, 2, 6)
    assert part.feeds["rate"].tolist() == [16.0] * 9
    given = np.full((9, 2, 6), 2.0, np.float32)
    assert np.array_equal(data.check({"x": x, "rate": np.ones(9), "h": given}, graph).feeds["h"], given)
    with pytest.raises(InvalidDataset, match="`rate`"):
        data.check({"x": x}, graph)
    assert not data.synthetic(graph, 10, np.random.default_rng(0)).feeds["h"].any()


def test_without_data_an_index_names_any_row() -> None:
    """Integers that a Gather looks up cover its table; others, of which nothing is known, are zero."""
    net = Net()
    net.inputs = [helper.make_tensor_value_info("x", TensorProto.INT64, ("N", 6))]
    net.op("ReduceMean", net.op("Gather", net.weight(7, 4), "x"))
    part = data.synthetic(load(net.bytes()), 100, np.random.default_rng(0))
    assert part.feeds["x"].dtype == np.int64
    assert sorted(set(part.feeds["x"].reshape(-1).tolist())) == list(range(7))


def test_gigabytes_of_zeros_are_refused_by_their_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here megabytes: packed they take a thousandth; as they are nobody minds them."""
    monkeypatch.setattr(data, "LARGEST_REPEATED_BYTES", 1 << 20)
    zeros = np.zeros((1 << 16, 8), np.float32)
    np.savez(tmp_path / "d.npz", x=zeros)
    data.check_npz(tmp_path / "d.npz")
    np.savez_compressed(tmp_path / "d.npz", x=zeros)
    with pytest.raises(ResourceLimit, match="repeats the same values"):
        data.check_npz(tmp_path / "d.npz")
