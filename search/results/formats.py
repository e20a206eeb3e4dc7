"""The files of a front in the format that the target's runtime loads, beside the ONNX ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hwprofiles.device import DeviceProfile
from search.formats import FORMATS, is_installed
from search.formats.base import Format
from search.formats.onnx import FORMAT as ONNX
from search.graph.onnx.find_samples import Found
from search.graph.onnx.read import load
from search.graph.onnx.traced import Traced
from search.graph.run.execute import shapes
from search.graph.upload import Upload
from search.input.data import Part
from search.judge.sessions import relative_difference
from search.measure.runtimes import RUNTIMES
from search.measure.runtimes.base import Runtime
from search.results.points import File
from search.wire.errors import SecateurError
from search.wire.progress import Progress

OF_PHONES = {"tflite": "litert"}
"""What profiles of phones call a runtime of ours."""
MOST_DIFFERENT = 1e-3
"""Of the largest output: kernels of two runtimes sum in other orders, and differ by less than 1e-5 in float32."""
TRIED_ON = 8
"""Samples."""


def write(
    out: Path, files: Mapping[str, File], profile: DeviceProfile, found: Found, part: Part, progress: Progress
) -> None:
    """Write every file of a front once more where its target loads another format than ONNX; say which are left out, and why.

    Args:
        out: the output directory; ``points/ID/p01.tflite`` stands beside ``points/ID/p01.onnx``.
        files: of the front, by path.
        profile: of the target.
        found: how samples stand in the upload, and so in its files.
        part: samples, on which a file is compared with its ONNX file in the format's own runtime, where that is installed.
        progress: is warned.
    """
    runtime = RUNTIMES.get(OF_PHONES.get(profile.runtime, profile.runtime))
    if runtime is None or FORMATS[runtime.format] is ONNX or progress.stopping:
        return
    form, reasons = FORMATS[runtime.format], dict[str, list[str]]()
    for path, file in files.items():
        try:
            content = _written(file.model, form, runtime, found, part)
        except (SecateurError, ValueError, RuntimeError, ArithmeticError, LookupError, TypeError) as error:
            reasons.setdefault(str(error).splitlines()[0], []).append(Path(path).stem)
            continue
        (out / path).with_suffix(form.suffix).write_bytes(content)
    for reason, left_out in reasons.items():
        progress.warn(f"{profile.id}: no {form.suffix} file of {', '.join(left_out)}, only ONNX: {reason}")


def _written(model: bytes, form: Format, runtime: Runtime, found: Found, part: Part) -> bytes:
    """The file in the format, which was tried.

    Raises:
        SecateurError: an operator that the format has not.
        ValueError: it is not installed, or its runtime computes something else.
    """
    if not is_installed(form):
        raise ValueError(f"its writer is not installed: pip install 'secateur[{form.extra}]'")
    graph = load(Upload(model), found)
    if graph.frame is not None:
        raise ValueError("parts of the file are run by ONNX Runtime as they are")
    some = part.take(slice(TRIED_ON))
    of_all, static = shapes(graph, graph.sampling.shapes({k: v.shape[1:] for k, v in some.feeds.items()}))
    content = form.write(Traced(model, graph, of_all, static))
    for k in range(len(some)) if graph.sampling.joins else range(1):
        feeds = graph.sampling.at_once(some.take(slice(k, k + 1) if graph.sampling.joins else slice(None)).feeds, 1)
        wanted = RUNTIMES["onnxruntime"].call(model, feeds, 1)()
        given = {info.name: form.given(np.asarray(feeds[info.name])) for info in graph.inputs}
        made = [form.taken(value) for value in runtime.call(content, given, 1)()]
        if not (far := relative_difference(made, wanted)) <= MOST_DIFFERENT:
            raise ValueError(f"in {runtime.title} {runtime.version()} it differs by {far:.1e} of its largest output")
    return content
