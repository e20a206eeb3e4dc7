"""ONNX bytes to a normalised `Graph`. Nothing is allocated before the file has been looked through."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import zipfile
from collections.abc import Sequence

import google.protobuf.message  # type: ignore[import-untyped]
import onnx

from search.graph.ir import Graph
from search.graph.onnx import admission
from search.graph.onnx.find_samples import Found
from search.graph.onnx.foreign import runtime_knows
from search.graph.proto import STANDARD_DOMAINS, to_graph
from search.graph.run.runtime import Runner
from search.graph.upload import Upload
from search.wire.errors import InvalidModel, UnsupportedOperator, UnsupportedOpset
from search.wire.foreign import foreign

OLDEST_OPSET = 1
UNREADABLE = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)
"""What onnx's helpers raise on numbers that no exporter writes (a type 48, a version 2**40); found by fuzzing."""
NEWEST_OPSET = onnx.defs.onnx_opset_version()


def load(data: bytes | Upload, found: Found | None = None, *, rewrites: Sequence[str] | None = None) -> Graph:
    """Read a model file, alone or with its data files, to the view that is searched.

    Args:
        data: its bytes.
        found: how its samples stand and at which sizes it runs; without it, what it declares is believed.
        rewrites: those of `search.graph.rewrite.normalise.REWRITES` that the view has; all when None.

    Raises:
        InvalidModel: not ONNX, empty, or contradicting itself.
        ExternalDataRefused: weights outside the file.
        UnsupportedOpset: an operator set outside what we read.
        UnsupportedOperator: an operator that no runtime here knows; names the node.
        ResourceLimit: the graph would need too much; names the node where one is to blame.
    """
    proto, graph = _read(data)
    return _normalised(proto, graph, found, rewrites)


def read(data: bytes | Upload) -> Graph:
    """As `load`, without normalisation. Loads no JAX: most bad files are refused seconds earlier so."""
    return _read(data)[1]


def _read(data: bytes | Upload) -> tuple[onnx.ModelProto, Graph]:
    upload = data if isinstance(data, Upload) else Upload(data)
    _parse(upload.data)
    proto = upload.parse()
    return proto, _checked(proto, proto).replace(upload=upload)


def _normalised(
    proto: onnx.ModelProto, graph: Graph, found: Found | None = None, rewrites: Sequence[str] | None = None
) -> Graph:
    """What we understand of the file, normalised; what we do not is carried."""
    from search.graph.onnx import carve  # load JAX, which `read` does without  # noqa: PLC0415
    from search.graph.rewrite.normalise import REWRITES, normalise  # noqa: PLC0415

    graph = graph if found is None else with_samples(graph, found)

    def view(of: Graph) -> Graph:
        runs = found.runs if found is not None and {info.name for info in of.inputs} <= set(found.runs[0]) else ()
        return normalise(of, runs, REWRITES if rewrites is None else rewrites)

    seen = () if found is None else (found.examples, found.runs)
    if carve.needs_care(graph):
        return view(carve.carve(proto, graph, *seen))
    try:
        return view(graph.replace(kinds=carve.kinds(graph)))
    except UnsupportedOperator:  # a known operator in a use that only ONNX Runtime has
        divided = carve.carve(proto, graph, *seen)
        if divided.frame is None:
            raise
        return view(divided)


def with_samples(graph: Graph, found: Found) -> Graph:
    """A graph as it was read, with what running the file has shown of its inputs."""
    inputs = tuple(
        info if info.shape else dataclasses.replace(info, shape=(None,) * len(found.runs[0][info.name]))
        for info in graph.inputs
    )
    return graph.replace(inputs=inputs, sampling=found.sampling)


def _checked(proto: onnx.ModelProto, checked: onnx.ModelProto | str) -> Graph:
    """The graph of a parsed file, after every check; the checker gets the path where the message is too large for it."""
    try:
        return _graph(proto, checked)
    except UNREADABLE as error:
        found = f"{type(error).__name__}: {_first_line(error)}"
        raise InvalidModel(
            f"the file contradicts itself ({found}); give a file that onnxruntime.InferenceSession opens"
        ) from error


def _graph(proto: onnx.ModelProto, checked: onnx.ModelProto | str) -> Graph:
    opsets = _opsets(proto)
    admission.check_nodes(proto)
    admission.check_constants(proto)
    _refuse_unknown_operators(proto, opsets)
    try:
        onnx.checker.check_model(checked)
    except (onnx.checker.ValidationError, ValueError) as error:
        _refuse_unless_it_runs(proto, error)
    graph = to_graph(proto, opsets)
    _refuse_missing(graph)
    return graph


def _refuse_unless_it_runs(proto: onnx.ModelProto, error: Exception) -> None:
    """The checker knows less than the runtime, which takes operators before their time, say; what both refuse is refused.

    Raises:
        InvalidModel: with the words of both.
    """
    try:
        Runner(proto.SerializeToString())
    except (NotImplementedError, google.protobuf.message.EncodeError, ValueError) as refusal:
        raise InvalidModel(
            f"the file cannot be run, the ONNX checker says: {_first_line(error)}; ONNX Runtime says: {_first_line(refusal)}; "
            "give a file that onnxruntime.InferenceSession opens"
        ) from error


def _parse(data: bytes) -> onnx.ModelProto:
    if not data:
        raise InvalidModel("the model file is empty; upload an .onnx file")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except google.protobuf.message.DecodeError as error:
        kind = _describe(data)
        raise InvalidModel(f"the file is not an ONNX model ({kind}); upload a complete .onnx file") from error
    if not proto.graph.node:
        raise InvalidModel(f"the model has no nodes ({_describe(data)}); upload a complete .onnx file")
    if not proto.graph.output:
        raise InvalidModel(
            f"the model has {len(proto.graph.node)} nodes and no output, so nothing tells what it is for; "
            "declare its outputs in graph.output"
        )
    return proto


def _describe(data: bytes) -> str:
    """What the bytes look like, for the message."""
    members: list[str] = []
    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.namelist()
    words = foreign(data, members) or ("a zip archive" if members else None)
    return f"it is {words}" if words else f"truncated or another format, {len(data)} bytes"


def _opsets(proto: onnx.ModelProto) -> dict[str, int]:
    opsets = {"" if item.domain in STANDARD_DOMAINS else item.domain: item.version for item in proto.opset_import}
    if "" not in opsets and all(node.domain not in STANDARD_DOMAINS for node in proto.graph.node):
        opsets[""] = NEWEST_OPSET  # nothing of the standard set is used
    version = opsets.get("", 0)
    if not OLDEST_OPSET <= version <= NEWEST_OPSET:
        raise UnsupportedOpset(
            f"the model uses operator set {version}; {OLDEST_OPSET} to {NEWEST_OPSET} are read; "
            "convert it with onnx.version_converter",
            operator=proto.graph.node[0].op_type,
            found=version,
            oldest=OLDEST_OPSET,
            newest=NEWEST_OPSET,
        )
    return opsets


def _refuse_unknown_operators(proto: onnx.ModelProto, opsets: dict[str, int]) -> None:
    functions = {(function.domain, function.name) for function in proto.functions}
    for index, node in enumerate(proto.graph.node):
        domain = "" if node.domain in STANDARD_DOMAINS else node.domain
        standard = onnx.defs.has(node.op_type, opsets.get(domain, 1), domain)
        if not standard and (node.domain, node.op_type) not in functions and not runtime_knows(domain, node.op_type):
            name = node.name or f"{node.op_type}_{index}"
            operator = f"{domain}::{node.op_type}" if domain else node.op_type
            raise UnsupportedOperator(
                f"node `{name}`: no runtime here knows the operator {operator}; "
                "export the model with standard ONNX operators",
                node=name,
                operator=operator,
            )


def _refuse_missing(graph: Graph) -> None:
    """Values that nothing makes: the checker does not look into local functions, which are inlined by now."""
    made = {info.name for info in graph.inputs} | set(graph.initializers) | {""}
    for node in graph.nodes:
        missing = [name for name in node.inputs if name not in made]
        if missing:
            raise InvalidModel(
                f"node `{node.name}` ({node.op}) reads `{missing[0]}`, which nothing before it makes; export the model again",
                node=node.name,
            )
        made.update(node.outputs)
    for info in graph.outputs:
        if info.name not in made:
            raise InvalidModel(f"nothing makes the output `{info.name}`; export the model again")


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
