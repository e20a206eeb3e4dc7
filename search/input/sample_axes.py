"""What a request, its data set and a run of its model say of samples and sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from search.graph.ir import Array, Graph
from search.graph.onnx import find_samples as by_running
from search.graph.onnx.find_samples import Found
from search.graph.onnx.read import read, with_samples
from search.graph.upload import Upload
from search.input.data import arrays_of, check, count_of
from search.wire.request import JobSpec

AT_ONCE = 2
"""Samples of an example where a model takes any number."""


def find_samples(model: Upload, spec: JobSpec, arrays: Mapping[str, Array] | None = None) -> Found:
    """Where the samples of a model stand, and the sizes that it is looked at with.

    Args:
        model: the ONNX file.
        spec: the request.
        arrays: of the data set, if there is one.

    Raises:
        InvalidModel, InvalidRequest: as `search.graph.onnx.find_samples.find_samples`.
    """
    graph = read(model)
    asked = {named.input: named.shape for named in spec.input_shapes}
    mine = {} if arrays is None else arrays_of(arrays, graph)
    found = by_running.find_samples(model.whole, graph, asked=asked, arrays=mine, count=count_of(arrays or {}))
    return found if arrays is None else dataclasses.replace(found, examples=_examples(arrays, graph, found))


def _examples(arrays: Mapping[str, Array], graph: Graph, found: Found) -> tuple[Mapping[str, Array], ...]:
    """The first samples and the last ones, as many at once as the model takes, and two where it takes any number."""
    part = check(arrays, with_samples(graph, found), found.samples)
    return tuple(
        found.sampling.at_once(part.take(index).feeds, AT_ONCE) for index in (slice(None), slice(None, None, -1))
    )


def sizes_taken(found: Found) -> str | None:
    """In words, the sizes that nobody named; None where there are none."""
    if not found.guessed:
        return None
    shapes = [f"{name}:{','.join(map(str, shape))}" for name, shape in found.guessed.items()]
    return (
        f"sizes that the model leaves free were found by running it: {' '.join(shapes)}; "
        f"name others with --input-shape {shapes[0]} (input_shapes)"
    )
