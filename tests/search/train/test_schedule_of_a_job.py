"""A schedule in a request: zeros are chosen while the points are trained, as many as before, and a stopped job ends the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from search.graph.ir import Array
from search.wire.request import Constraints, JobSpec, SearchOptions
from tests.search.graph.nets import images
from tests.search.space.structures.test_cluster import PHONE, inverted_residuals
from tests.search.train.test_finetune import StopsLater, files_of, run

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


def unit_zeros(folder: Path, name: str) -> list[dict[str, Array]]:
    """The same of every stage that a job trained, ``trained``, or of every candidate that it repaired, ``candidate``."""
    stages = []
    for path in (folder / "units").glob(f"{name}-*.npz"):
        with np.load(path) as arrays:
            stages.append({n: a == 0 for n, a in arrays.items() if a.ndim == 4 and a.shape[2:] == (1, 1)})
    return stages


def test_a_schedule_moves_zeros_and_keeps_their_number(tmp_path: Path) -> None:
    """Every kernel of the front is as sparse as the repair had made it; resumed in the middle, the bytes are the same.

    The schedule trains other zeros, as many; where they end behind the repair's, which are all but perfect in a random
    network, the front keeps those and the report says so.
    """
    data = tmp_path / "data.npz"
    np.savez(data, x=images(200, 3, 16, 16))
    for name, minutes, stop in (("repaired", 0.0, None), ("whole", 0.2, None), ("resumed", 0.2, 12)):
        report = run(tmp_path / name, data, model=MODEL, spec=spec(minutes), progress=StopsLater(stop))
        assert report.complete is (stop is None)
    resumed = run(tmp_path / "resumed", data, model=MODEL, spec=spec(0.2))
    repaired, whole = files_of(tmp_path / "repaired"), files_of(tmp_path / "whole")
    assert files_of(tmp_path / "resumed") == whole
    zeros = {name: zeros_of(model) for name, model in repaired.items()}
    for name in zeros.keys() & whole.keys():
        counts = {weight: found.sum() for weight, found in zeros_of(whole[name]).items()}
        assert counts == {weight: found.sum() for weight, found in zeros[name].items()}
    moved = [
        (weight, found.sum())
        for stage in unit_zeros(tmp_path / "whole", "trained")
        for weight, found in stage.items()
        if not any(np.array_equal(found, known[weight]) for known in zeros.values() if weight in known)
    ]
    asked = {(weight, found.sum()) for known in zeros.values() for weight, found in known.items()}
    assert asked.intersection(moved)
    candidates = unit_zeros(tmp_path / "whole", "candidate")
    points = [zeros_of(model) for name, model in whole.items() if "dense" not in name]
    kept = any(
        all(np.array_equal(zero, known[w]) for w, zero in mine.items()) for mine in points for known in candidates
    )
    assert any("the zeros of their repair" in warning for warning in resumed.warnings) == kept
