"""The first step of a job in this process: a model and its data, as a job prepares them."""

from __future__ import annotations

from pathlib import Path

from search.candidates.recovery import recovery
from search.graph.onnx.read import load
from search.graph.upload import Upload
from search.input.data import read_npz
from search.input.division import Splits
from search.input.sample_axes import find_samples
from search.preparation import prepare
from search.space.plan import Knobs
from search.train.augment import Augmentation
from search.wire.progress import Progress
from search.wire.request import JobSpec


def prepared(spec: JobSpec, model: bytes, data: Path, progress: Progress) -> tuple[Splits, Knobs, Augmentation]:
    """Samples divided, channels coupled, and how samples may be augmented."""
    upload, arrays = Upload(model), read_npz(data)
    found = find_samples(upload, spec, arrays)
    return prepare(spec, load(upload, found), arrays, found, recovery(spec, synthetic=False), progress)
