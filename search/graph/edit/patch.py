"""From a derived graph that was cut, refitted or rewritten to the edits of the upload that make it compute the same.

The graph that JAX runs is a view of the file: batch norms are folded, constants computed, identities gone. Nothing of that is
written. A change of the view is carried back: numbers to the tensors that they came from (`search.graph.sources`), attributes
and constants that name sizes to the nodes that have them, dropped and replaced nodes to nodes of the file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx

from search.graph.edit import edits as e
from search.graph.edit.liveness import newly_dead
from search.graph.edit.numbers import Keeps, number_edits
from search.graph.edit.place import InFunction, Place
from search.graph.ir import Array, Graph, Node, Source
from search.graph.onnx.write import export
from search.graph.ops import named
from search.graph.proto import from_node
from search.graph.sources import Moved, Stored
from search.graph.upload import without_numbers

__all__ = ["Keeps", "Patched", "file_of", "patch"]


@dataclasses.dataclass(frozen=True)
class Patched:
    """The upload with edits."""

    model: bytes
    """A message whose tensors hold their numbers."""
    edits: tuple[e.Edit, ...]
    inlined: bool
    """Whether local functions had to be written out, because a body would have to change for one of its calls."""


def file_of(graph: Graph) -> bytes:
    """The file that a graph was read from, its data files within it; of a graph that was made otherwise, the graph as a file."""
    if graph.upload is None:
        return export(graph)
    return graph.upload.whole


def patch(dense: Graph, final: Graph, keeps: Keeps) -> Patched:
    """The upload of a graph, edited so that it computes what ``final`` does.

    Args:
        dense: as it was derived from the file.
        final: a graph made from it, under the same names.
        keeps: positions that stay of the initializers of ``dense`` that became smaller.

    Raises:
        ValueError: the graph was not read from a file.
    """
    if dense.upload is None:
        raise ValueError("the graph was not read from a file")
    try:
        proto = dense.upload.parse()
        place = Place(proto, dense.upload.flat() if proto.functions else proto, dense.upload.positions)
        return _patched(dense, final, keeps, proto, place, inlined=False)
    except InFunction:
        flat = dense.upload.flat()
        place = Place(flat, flat, range(len(flat.graph.node)))
        return _patched(dense, final, keeps, flat, place, inlined=True)


def _patched(
    dense: Graph, final: Graph, keeps: Keeps, proto: onnx.ModelProto, place: Place, *, inlined: bool
) -> Patched:
    found = [*_node_edits(dense, final, place), *number_edits(dense, final, keeps, place)]
    found += newly_dead(proto.graph, found)
    e.apply(proto, found)
    for declared in (_input_sizes, _value_sizes):
        sizes = declared(proto, found)
        e.apply(proto, sizes)
        found += sizes
    return Patched(proto.SerializeToString(), tuple(found), inlined)


def _node_edits(dense: Graph, final: Graph, place: Place) -> list[e.Edit]:
    """Edits for nodes that changed, came or went; weights apart."""
    before = {node.name: node for node in dense.nodes}
    dtype = _float_type(dense)
    found: list[e.Edit] = []
    renamed: set[e.Rename] = set()  # a value has several readers
    constants: list[_Constant] = []
    for node in final.nodes:
        old = before.get(node.name)
        if node.is_carried:  # a part of the file as it is
            if old is not None:
                pairs = zip(old.inputs, node.inputs, strict=True)
                found += [e.Rename(place.visible(was), place.visible(reads)) for was, reads in pairs if was != reads]
            continue
        if old is None or old.origin is None or old.op != node.op:
            found += _inserted(node, dense, final, place, dtype)
            continue
        for edit in _changed(old, node, dense, final, place):
            if isinstance(edit, _Constant):
                constants.append(edit)
            elif not isinstance(edit, e.Rename):
                found.append(edit)
            elif edit not in renamed:
                renamed.add(edit)
                found.append(edit)
    return [*found, *_constants(constants, place)]


@dataclasses.dataclass(frozen=True)
class _Constant:
    """An input of a node that names sizes, and names others now."""

    site: tuple[int | None, int]
    source: Source | None
    """Of the old one."""
    value: Array


def _changed(old: Node, node: Node, dense: Graph, final: Graph, place: Place) -> Iterator[e.Edit | _Constant]:
    for name, value in node.attributes.items():
        if name not in old.attributes or not _equal(old.attributes[name], value):
            yield e.SetAttribute(place.position(old.origin), name, value)
    for name in set(old.attributes) - set(node.attributes):
        yield e.SetAttribute(place.position(old.origin), name, None)
    if not _equal_attributes(old, node):  # what the view leaves out, as states that are zero, may name the old sizes
        yield from place.left_out(old)
    for position in range(max(len(old.inputs), len(node.inputs))):
        was, reads = old.input(position), node.input(position)
        if was == reads:
            continue
        if reads in final.initializers:
            yield _Constant((old.origin, position), dense.sources.get(was), final.initializers[reads])
        else:
            yield e.Rename(place.visible(was), place.visible(reads))


def _constants(changed: Sequence[_Constant], place: Place) -> Iterator[e.Edit]:
    """In place where all who read the old one want the same and it stands in the file; else one new one for all of them."""
    alike: dict[Any, list[_Constant]] = {}
    for constant in changed:
        value, source = constant.value, constant.source
        tensor = source.tensor if isinstance(source, Stored) else constant.site
        alike.setdefault((tensor, value.shape, str(value.dtype), value.tobytes()), []).append(constant)
    for first, *others in alike.values():
        sites, source = [first.site, *(other.site for other in others)], first.source
        if isinstance(source, Stored) and _equal(source.value, first.value):
            continue  # another one in the view alone, which counts no sizes from the end
        if isinstance(source, Stored) and place.only_readers(source.tensor, sites):
            yield e.Put(source.tensor, first.value.astype(source.dtype))
        else:
            dtype = source.dtype if isinstance(source, Stored | Moved) else first.value.dtype
            yield from place.constant(sites, "sizes", first.value, dtype)


def _inserted(node: Node, dense: Graph, final: Graph, place: Place, dtype: Any) -> Iterator[e.Edit]:
    """A node that is not the file's, in the place of the one that made its result."""
    where = next((place.maker[name] for name in node.outputs if name in place.maker), None)
    if where is None:
        raise InFunction
    inputs = []
    for name in node.inputs:
        if name not in final.initializers:
            inputs.append(place.visible(name) if name else "")
        elif isinstance(dense.sources.get(name), Stored):
            inputs.append(name)
        else:
            value = final.initializers[name]
            inputs.append(place.fresh(name))
            kind = place.type_of(inputs[0], dtype) if value.dtype == np.float32 else value.dtype
            yield e.Add(inputs[-1], value.astype(kind))
    written = dataclasses.replace(node, name=place.fresh_node(node.name), inputs=tuple(inputs))
    yield e.Insert(where, from_node(written))
    yield e.Drop(where)


def _float_type(graph: Graph) -> Any:
    """The type of most of the file's weights."""
    counts: dict[Any, int] = {}
    for name, value in graph.initializers.items():
        source = graph.sources.get(name)
        if source is not None and value.dtype == np.float32 and value.ndim > 1:
            counts[source.dtype] = counts.get(source.dtype, 0) + value.size
    return max(counts, key=lambda dtype: counts[dtype], default=np.dtype(np.float32))


def _equal_attributes(a: Node, b: Node) -> bool:
    return set(a.attributes) == set(b.attributes) and all(_equal(v, b.attributes[k]) for k, v in a.attributes.items())


def _equal(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b)) if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) else a == b


def _input_sizes(edited: onnx.ModelProto, found: Sequence[e.Edit]) -> list[e.Edit]:
    """Declared sizes of initializers that are inputs, or have a note of their own, and became smaller."""
    shapes = {
        edit.tensor.name: edit.value.shape for edit in found if isinstance(edit, e.Put) and edit.tensor.node is None
    }
    infos = (*edited.graph.input, *edited.graph.value_info)
    return [size for info in infos for size in _differing(info, shapes.get(info.name))]


def _value_sizes(edited: onnx.ModelProto, found: Sequence[e.Edit]) -> list[e.Edit]:
    """Declared sizes of values that the edits made untrue, as onnx's own inference finds them.

    Where they then contradict each other, what is declared of values that the inference cannot tell is forgotten.
    """
    if not edited.graph.value_info or not found:
        return []
    bare = without_numbers(edited)
    del bare.graph.value_info[:]
    for node in bare.graph.node:
        entry = named(node.domain, node.op_type)
        if entry is not None and entry.sized_as:  # that inference knows ONNX's own operators alone
            node.domain, node.op_type = "", entry.sized_as
    inferred = {info.name: info for info in onnx.shape_inference.infer_shapes(bare, data_prop=True).graph.value_info}
    sizes: list[e.SetSize] = []
    untold: set[str] = set()
    for info in edited.graph.value_info:
        known = inferred.get(info.name)
        dims = known.type.tensor_type.shape.dim if known is not None else ()
        told = [d.dim_value if d.HasField("dim_value") else None for d in dims]
        sizes += _differing(info, told)
        declared = [d.HasField("dim_value") for d in info.type.tensor_type.shape.dim]
        if len(told) != len(declared) or any(size is None for size, fixed in zip(told, declared, strict=True) if fixed):
            untold.add(info.name)
    if not untold or not _contradicts(edited, sizes):
        return [*sizes]
    return [*(size for size in sizes if size.value not in untold), *map(e.Forget, sorted(untold))]


def _contradicts(edited: onnx.ModelProto, sizes: Sequence[e.Edit]) -> bool:
    """Whether declared sizes, as they will be, contradict each other."""
    declared = without_numbers(edited)
    e.apply(declared, sizes)
    try:
        onnx.shape_inference.infer_shapes(declared, strict_mode=True)
    except onnx.shape_inference.InferenceError:
        return True
    return False


def _differing(info: onnx.ValueInfoProto, shape: Sequence[int | None] | None) -> Iterator[e.SetSize]:
    declared = info.type.tensor_type.shape.dim
    if shape is None or len(shape) != len(declared):
        return
    for axis, (dim, size) in enumerate(zip(declared, shape, strict=True)):
        if size is not None and dim.HasField("dim_value") and dim.dim_value != size:
            yield e.SetSize(info.name, axis, int(size))
