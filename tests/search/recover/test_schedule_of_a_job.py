"""A schedule in a request: zeros are chosen while the points are trained, as many as before, and a stopped job ends the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from search.graph.ir import Array
from search.request import Constraints, JobSpec, SearchOptions
from tests.search.graph.nets import images
from tests.search.recover.test_finetune import files_of, run
from tests.search.structures.test_cluster import PHONE, inverted_residuals

MODEL = inverted_residuals().bytes()


def spec(minutes: float) -> JobSpec:
    """Zeros alone, on a phone that skips them."""
    options = SearchOptions(points=2, finetune_minutes=minutes, schedule="gradual")
    return JobSpec((PHONE,), constraints=Constraints(structures=("unstructured",)), search=options)


def zeros_of(model: bytes) -> dict[str, Array]:
    """Kernel of every 1x1 convolution to where it is zero."""
    graph = onnx.load_from_string(model).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return {name: value == 0 for name, value in arrays.items() if value.ndim == 4 and value.shape[2:] == (1, 1)}


def test_a_schedule_moves_zeros_and_keeps_their_number(tmp_path: Path) -> None:
    """Every kernel is as sparse as the repair had made it, with other zeros; resumed in the middle, the bytes are the same."""
    data = tmp_path / "data.npz"
    np.savez(data, x=images(200, 3, 16, 16))
    for name, minutes, stop in (("repaired", 0.0, None), ("whole", 0.2, None), ("resumed", 0.2, 12)):
        report = run(tmp_path / name, data, model=MODEL, spec=spec(minutes), stop_after=stop)
        assert report.complete is (stop is None)
    run(tmp_path / "resumed", data, model=MODEL, spec=spec(0.2))
    repaired, whole = files_of(tmp_path / "repaired"), files_of(tmp_path / "whole")
    assert files_of(tmp_path / "resumed") == whole
    moved = 0
    for name in repaired.keys() & whole.keys():
        before, after = zeros_of(repaired[name]), zeros_of(whole[name])
        assert {weight: zeros.sum() for weight, zeros in before.items()} == {w: z.sum() for w, z in after.items()}
        moved += sum((before[weight] != after[weight]).sum() for weight in before)
    assert moved > 0
