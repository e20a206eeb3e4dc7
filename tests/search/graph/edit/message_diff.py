"""What differs between two model files, field by field, and which of these differences a list of edits names.

Both are sets of paths, such as ``graph.node[3].attribute[group].i``, ``-graph.node[4]`` or ``+graph.initializer[w.cut]``. Nothing
here uses the code that does the edits: a law compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

from search.graph.edit import edits as e

INPUTS_UNTIL_IR = 4
_DATA = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")


def differences(before: onnx.ModelProto, after: onnx.ModelProto) -> set[str]:
    """Paths of the fields in which two messages differ; positions of nodes are those in ``before``."""
    return set(_messages(before, after, ""))


def explained(before: onnx.ModelProto, edits: Sequence[e.Edit]) -> list[set[str]]:
    """For each edit the paths that it says should differ."""
    gone = {edit.node for edit in edits if isinstance(edit, e.Drop)}
    fresh = [edit.node for edit in edits if isinstance(edit, e.Insert)]
    return [set(_of_edit(before, edit, gone, fresh)) for edit in edits]


def unexplained(before: onnx.ModelProto, after: onnx.ModelProto, edits: Sequence[e.Edit]) -> list[str]:
    """In words, every difference that no edit names and every edit that changed nothing; empty where all is well."""
    found, named = differences(before, after), explained(before, edits)
    every = set().union(*named)
    return [
        *(f"no edit names the difference {path}" for path in sorted(found - every)),
        *(f"{path} is as before, in spite of an edit" for path in sorted(every - found)),
        *(f"names nothing: {edit}" for edit, paths in zip(edits, named, strict=True) if not paths),
    ]


def _messages(a: Any, b: Any, path: str) -> Iterator[str]:
    """Paths below two messages of one type."""
    if a.SerializeToString(deterministic=True) == b.SerializeToString(deterministic=True):
        return
    some = False
    for field in a.DESCRIPTOR.fields:
        below = f"{path}.{field.name}" if path else field.name
        for each in _fields(a, b, field, below):
            some = True
            yield each
    if not some:
        yield f"{path}.(unknown fields)"


def _fields(a: Any, b: Any, field: Any, path: str) -> Iterator[str]:
    mine, theirs = getattr(a, field.name), getattr(b, field.name)
    if field.is_repeated and field.message_type is not None:
        yield from _items(mine, theirs, path)
    elif field.is_repeated and isinstance(a, NodeProto) and field.name == "input":
        for i in range(max(len(mine), len(theirs))):
            if mine[i : i + 1] != theirs[i : i + 1]:
                yield f"{path}[{i}]"
    elif field.is_repeated:
        if not np.array_equal(np.array(mine, object), np.array(theirs, object)):
            yield path
    elif field.message_type is not None:
        if a.HasField(field.name) != b.HasField(field.name):
            yield path
        else:
            yield from _messages(mine, theirs, path)
    elif mine != theirs or (field.has_presence and a.HasField(field.name) != b.HasField(field.name)):
        yield path


def _items(mine: Sequence[Any], theirs: Sequence[Any], path: str) -> Iterator[str]:
    """Paths below two lists of messages, whose items are matched by what they are called."""
    old, new = _named(mine), _named(theirs)
    for key, (label, item) in old.items():
        if key in new:
            yield from _messages(item, new[key][1], f"{path}[{label}]")
        else:
            yield f"-{path}[{label}]"
    for key in new.keys() - old.keys():
        yield f"+{path}[{_word(new[key][1])}]"
    if [key for key in old if key in new] != [key for key in new if key in old]:
        yield f"{path} (order)"


def _named(items: Sequence[Any]) -> dict[Any, tuple[Any, Any]]:
    """Key to label and item; equal keys are counted."""
    found: dict[Any, tuple[Any, Any]] = {}
    counts: dict[Any, int] = {}
    for position, item in enumerate(items):
        key = _key(item, position)
        counts[key] = counts.get(key, 0) + 1
        label = position if isinstance(item, NodeProto) else _word(item) or position
        found[key, counts[key]] = (label, item)
    return found


def _key(item: Any, position: int) -> Any:
    if isinstance(item, NodeProto):
        return (item.name, item.op_type, item.domain, *item.output)
    return _word(item) or position


def _word(item: Any) -> Any:
    """What an item of a list is called; of a node what it makes."""
    if isinstance(item, NodeProto):
        return f"{item.op_type} {','.join(item.output)}"
    names = {field.name for field in item.DESCRIPTOR.fields}
    word = next((name for name in ("name", "tensor_name", "key") if name in names), None)
    if isinstance(item, onnx.OperatorSetIdProto):
        return f"domain {item.domain}"
    return getattr(item, word) if word is not None else None


def _of_edit(before: onnx.ModelProto, edit: e.Edit, gone: set[int], fresh: Sequence[NodeProto]) -> Iterator[str]:
    graph = before.graph
    match edit:
        case e.Put(tensor, value) if tensor.node is None:
            position = next(i for i, item in enumerate(graph.initializer) if item.name == tensor.name)
            yield from _of_tensor(graph.initializer[position], value, f"graph.initializer[{tensor.name}]")
        case e.Put(tensor, value):
            at = next(item for item in graph.node[tensor.node].attribute if item.name == tensor.name)
            path = f"graph.node[{tensor.node}].attribute[{tensor.name}]"
            if at.type == AttributeProto.TENSOR:
                yield from _of_tensor(at.t, value, f"{path}.t")
            else:
                yield from _messages(at, helper.make_attribute(tensor.name, value.tolist()), path)
        case e.SetAttribute(node, name, value):
            yield from _of_attribute(graph.node[node], name, value, f"graph.node[{node}]")
        case e.SetSize(name, axis, _):
            for field in ("input", "output", "value_info"):
                for info in getattr(graph, field):
                    if info.name == name:
                        yield f"graph.{field}[{name}].type.tensor_type.shape.dim[{axis}].dim_value"
        case e.Add(name, _):
            yield f"+graph.initializer[{name}]"
            if before.ir_version < INPUTS_UNTIL_IR:
                yield f"+graph.input[{name}]"
        case e.Rewire(node, position, _):
            for i in range(min(position, len(graph.node[node].input)), position + 1):
                yield f"graph.node[{node}].input[{i}]"
        case e.Rename(value, _):
            for i, node in enumerate(graph.node):
                if i not in gone:
                    yield from _reads(node, value, f"graph.node[{i}]")
        case e.Insert(_, node):
            twin = next((i for i in gone if _key(graph.node[i], i) == _key(node, i)), None)
            if twin is None:
                yield f"+graph.node[{_word(node)}]"
            else:
                yield from _messages(graph.node[twin], node, f"graph.node[{twin}]")
        case e.Drop(i):
            twin = next((node for node in fresh if _key(graph.node[i], i) == _key(node, i)), None)
            if twin is None:
                yield f"-graph.node[{i}]"
            else:
                yield from _messages(graph.node[i], twin, f"graph.node[{i}]")
        case e.Forget(name):
            for field in ("initializer", "value_info", "input", "quantization_annotation"):
                for item in getattr(graph, field):
                    if _word(item) == name:
                        yield f"-graph.{field}[{name}]"


def _of_tensor(stored: TensorProto, value: Any, path: str) -> Iterator[str]:
    old = numpy_helper.to_array(stored)
    if old.shape != value.shape:
        yield f"{path}.dims"
    if old.tobytes() != value.astype(old.dtype).tobytes():
        yield f"{path}.{next(field for field in _DATA if len(getattr(stored, field)))}"


def _of_attribute(node: NodeProto, name: str, value: Any, path: str) -> Iterator[str]:
    found = next((item for item in node.attribute if item.name == name), None)
    if value is None:
        yield f"-{path}.attribute[{name}]"
    elif found is None:
        yield f"+{path}.attribute[{name}]"
    else:
        new = helper.make_attribute(name, value, doc_string=found.doc_string)
        yield from _messages(found, new, f"{path}.attribute[{name}]")


def _reads(node: NodeProto, value: str, path: str) -> Iterator[str]:
    """Where a node, or its subgraphs, read a value."""
    for i, name in enumerate(node.input):
        if name == value:
            yield f"{path}.input[{i}]"
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            for i, inner in enumerate(attribute.g.node):
                yield from _reads(inner, value, f"{path}.attribute[{attribute.name}].g.node[{i}]")
