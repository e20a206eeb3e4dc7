"""Real exports of torch: run, differentiated, cut. Left out of the default run; needs torch and onnxscript."""

# mypy: ignore-errors
# torch is not installed where types are checked.
from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="torch is not installed (pip install torch==2.13.0 onnxscript)")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")

from tests.benchmarks import torch_exports
from tests.benchmarks.architectures import ARCHITECTURES

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("exporter", torch_exports.EXPORTERS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_export_runs_and_is_cut(name: str, exporter: str) -> None:
    """Equal to ONNX Runtime within 1e-4, at least 30 % removable, cut equals masked, the batch free."""
    row = torch_exports.examine(name, exporter)
    assert row.error < 1e-4
    assert row.cut_error < 1e-4
    assert row.removable > 0.3
    assert row.cut_share > 0.1
    assert row.dynamic
    assert row.heads_error is None or row.heads_error < 1e-4


@pytest.mark.parametrize("name", torch_exports.DIFFERENTIATED)
def test_gradients_equal_those_of_torch(name: str) -> None:
    """Within 1e-3 of the largest, weight by weight; weights are found again by their values."""
    assert torch_exports.gradient_error(name) < 1e-3
