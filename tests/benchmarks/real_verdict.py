"""What a written file is worth, found out by ONNX Runtime alone on samples that the job did not see.

Nothing of the product is imported: this is its referee in ``real_files``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

Array = NDArray[Any]
_BATCH = 16  # samples a call where the file lets us choose
_SLACK = 0.06  # by which a reported figure may miss ours beyond its own interval: other samples, other pictures


@dataclasses.dataclass(frozen=True)
class Habits:
    """How a network takes its samples; see ``real_networks.Network``."""

    batch: Mapping[str, int | None]
    states: Mapping[str, tuple[int, ...]]
    classes: Mapping[str, int]
    together: bool


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One written file against the upload."""

    quality: dict[str, float]
    """Of every output: r2, or for classes the share of answers that the upload gives too; ``top1`` where labels are known."""
    r2: dict[str, float]
    """Of every output that holds numbers, classes too: a product without labels may take scores for values."""
    faults: list[str]
    """What is wrong with the file; none means that it can stand in for the upload."""
    alike: tuple[dict[str, float], dict[str, float]]
    """Quality and r2 on other samples of the kind that the job was given: what it reported can be true of these only."""


def session(path: Path) -> onnxruntime.InferenceSession:
    """One thread, as the product measures."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def answers(path: Path, arrays: Mapping[str, Array], habits: Habits, most: int = _BATCH) -> dict[str, Array]:
    """Outputs of all samples, samples first where an output has them; maps (ZipMap) become columns.

    Args:
        path: the file.
        arrays: samples first, by input.
        habits: how it takes them.
        most: samples a call where the file lets us choose.

    Raises:
        RuntimeError and others of ONNX Runtime: it does not run the file.
    """
    runner = session(path)
    names = [o.name for o in runner.get_outputs()]
    count = max(len(v) for k, v in arrays.items() if k != "y" and habits.batch.get(k, 0) is not None)
    step = count if habits.together else most if _is_free(runner, habits) else 1
    found: dict[str, list[Array]] = {name: [] for name in names}
    for start in range(0, count, step):
        size = min(step, count - start)
        values = runner.run(None, _feeds(runner, arrays, habits, start, size))
        for name, value in zip(names, values, strict=True):
            axis = habits.batch.get(name, 0)
            array = _columns(value)
            has_samples = axis is not None and array.ndim > axis and array.shape[axis] == size
            found[name].append(np.moveaxis(array, axis or 0, 0) if has_samples else array[None])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _largest_batch(upload: Path, arrays: Mapping[str, Array], habits: Habits) -> int:
    """1 where the upload itself runs no more at once, whatever it declares: exporters write Reshapes for their example."""
    few = {k: v[:2] if v.ndim and habits.batch.get(k, 0) is not None else v for k, v in arrays.items()}
    try:
        answers(upload, few, habits)
    except Exception:  # noqa: BLE001 - ONNX Runtime's errors have no common class of their own
        return 1
    return _BATCH


def _is_free(runner: onnxruntime.InferenceSession, habits: Habits) -> bool:
    axes = [(i, habits.batch.get(i.name, 0)) for i in runner.get_inputs()]
    return all(not isinstance(info.shape[axis], int) for info, axis in axes if axis is not None)


def _feeds(
    runner: onnxruntime.InferenceSession, arrays: Mapping[str, Array], habits: Habits, start: int, size: int
) -> dict[str, Array]:
    infos, feeds = runner.get_inputs(), {}
    for info in infos:
        axis = habits.batch.get(info.name, 0)
        if info.name in habits.states:
            shape = list(habits.states[info.name])
            if axis is not None:
                shape[axis] = size
            feeds[info.name] = np.zeros(shape, np.float32)
            continue
        value = arrays["x"] if len(infos) == 1 and "x" in arrays else arrays[info.name]
        feeds[info.name] = value if axis is None else np.moveaxis(value[start : start + size], 0, axis)
    return feeds


def _columns(value: Any) -> Array:
    """An array of an output of any type; a list of maps (ZipMap) has the maps' values as columns."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return np.asarray([[row[key] for key in sorted(row)] for row in value])
    return np.asarray(value)


def judge(upload: Path, written: Path, folder: Path, habits: Habits) -> Verdict:
    """Interface, size, other sizes, and quality on the samples that no job saw."""
    faults = interface_faults(upload, written)
    if _bytes(written) > _bytes(upload):
        faults.append(f"{_bytes(written)} bytes, the upload has {_bytes(upload)}")
    quality: dict[str, float] = {}
    r2: dict[str, float] = {}
    alike = quality, r2
    try:
        quality, r2 = alike = _compared(upload, written, folder / "judge.npz", habits)
        if (folder / "again.npz").exists():
            alike = _compared(upload, written, folder / "again.npz", habits)
    except Exception as error:  # noqa: BLE001 - whatever ONNX Runtime raises, the file does not run
        faults.append(f"does not run on the data: {str(error)[:160]}")
    if (folder / "other.npz").exists():
        faults += _faults_elsewhere(upload, written, folder / "other.npz", habits)
    return Verdict(quality, r2, faults, alike)


def _compared(upload: Path, written: Path, samples: Path, habits: Habits) -> tuple[dict[str, float], dict[str, float]]:
    """Quality and r2 of every output."""
    with np.load(samples) as opened:
        arrays = dict(opened)
    most = _largest_batch(upload, arrays, habits)
    mine, theirs = (answers(path, arrays, habits, most) for path in (written, upload))
    r2 = figures(mine, theirs, {}, None)
    return figures(mine, theirs, habits.classes, arrays.get("y")), {**r2, **by_column(mine, theirs)}


def by_column(mine: Mapping[str, Array], theirs: Mapping[str, Array]) -> dict[str, float]:
    """Mean r2 of the columns of every output that has some: one that is destroyed counts as much as one that varies widely."""
    found = {}
    for name, reference in theirs.items():
        if reference.dtype.kind == "f" and reference.ndim > 1:
            wanted = reference.reshape(-1, reference.shape[-1]).astype(np.float64)
            missed = mine[name].reshape(wanted.shape).astype(np.float64) - wanted
            varies = wanted.var(0) > 1e-12
            if varies.any():
                found[f"{name} by column"] = float(1 - ((missed**2).mean(0) / wanted.var(0).clip(1e-12))[varies].mean())
    return found


def _faults_elsewhere(upload: Path, written: Path, samples: Path, habits: Habits) -> list[str]:
    with np.load(samples) as opened:
        arrays = dict(opened)
    try:
        most = _largest_batch(upload, arrays, habits)
        mine, theirs = (answers(path, arrays, habits, most) for path in (written, upload))
    except Exception as error:  # noqa: BLE001 - as above
        return [f"does not run at other sizes: {str(error)[:160]}"]
    return [
        f"`{name}` has shape {mine[name].shape} at other sizes, the upload's is {theirs[name].shape}"
        for name in theirs
        if mine[name].shape != theirs[name].shape
    ]


def interface_faults(upload: Path, written: Path) -> list[str]:
    """Fields that a client sees and that differ: inputs, outputs, versions, metadata."""
    before, after = (onnx.load(path, load_external_data=False) for path in (upload, written))
    faults = []
    for field in ("input", "output"):
        pairs = [[v.SerializeToString(deterministic=True) for v in getattr(m.graph, field)] for m in (before, after)]
        if pairs[0] != pairs[1]:
            faults.append(f"graph.{field} differs from the upload's")
    for field in ("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string"):
        if getattr(before, field) != getattr(after, field):
            faults.append(f"{field} is {getattr(after, field)!r}, the upload's is {getattr(before, field)!r}")
    for field in ("opset_import", "metadata_props"):
        if [str(v) for v in getattr(before, field)] != [str(v) for v in getattr(after, field)]:
            faults.append(f"{field} differs from the upload's")
    return faults


def figures(
    mine: Mapping[str, Array], theirs: Mapping[str, Array], classes: Mapping[str, int], labels: Array | None
) -> dict[str, float]:
    """Quality of every output that says anything; constants and what is not a number are left out."""
    found = {}
    for name, reference in theirs.items():
        axis = classes.get(name, classes.get("*"))
        if axis is not None:
            answered, wanted = (_answers(v, axis) for v in (mine[name], reference))
            found[name] = float((answered == wanted).mean())
            if labels is not None and answered.shape == labels.shape:
                found["top1"] = float((answered == labels).mean())
        elif reference.dtype.kind in "fiub":
            error = ((mine[name].astype(np.float64) - reference) ** 2).mean()
            spread = reference.astype(np.float64).var()
            if spread > 1e-12:
                found[name] = float(1 - error / spread)
    return found


def _answers(scores: Array, axis: int) -> Array:
    return scores if axis < 0 or scores.ndim == 1 else scores.argmax(axis)


def agrees(reported: Mapping[str, Any], verdict: Verdict) -> bool:
    """Whether the product's figure is one of ours on samples of its kind, or their mean, within its interval and some slack."""
    quality, r2 = verdict.alike
    figures_of = list((r2 if reported["metric"] == "r2" else quality).values())
    ours = [*figures_of, float(np.mean(figures_of))] if figures_of else []
    low, high = reported["low"] - _SLACK, reported["high"] + _SLACK
    return any(low <= value <= high for value in ours)


def _bytes(path: Path) -> int:
    beside = path.with_name(path.name + ".data")
    return path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)
