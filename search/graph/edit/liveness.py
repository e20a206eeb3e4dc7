"""What of a file nothing needs any more once it is edited."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import onnx

from search.graph.edit import edits as e


def newly_dead(graph: onnx.GraphProto, edits: Sequence[e.Edit]) -> list[e.Edit]:
    """Nodes and initializers that an output depended on before the edits and depends on no more.

    What was dead in the file stays as it is: it is the client's.
    """
    before = _needed(graph, [], ())
    unused = [name for node in graph.node if before.isdisjoint(node.output) for name in node.output]
    after = _needed(graph, edits, unused)
    dropped = {edit.node for edit in edits if isinstance(edit, e.Drop)}
    gone = [
        i
        for i, node in enumerate(graph.node)
        if i not in dropped and before & {*node.output} and not after & {*node.output}
    ]
    made_no_more = {name for i in (*gone, *dropped) for name in graph.node[i].output if name and name not in after}
    unread = {tensor.name for tensor in graph.initializer if tensor.name in before and tensor.name not in after}
    declared = {info.name for info in graph.value_info} & made_no_more
    return [*(e.Drop(i) for i in gone), *(e.Forget(name) for name in sorted(unread | declared))]


def _needed(graph: onnx.GraphProto, edits: Sequence[e.Edit], also: Iterable[str]) -> set[str]:
    """Names of the values that some output, or one of other values, depends on."""
    renamed = {edit.value: edit.name for edit in edits if isinstance(edit, e.Rename)}
    rewired = {(edit.node, edit.position): edit.name for edit in edits if isinstance(edit, e.Rewire)}
    inserted: dict[int, list[onnx.NodeProto]] = {}
    for edit in edits:
        if isinstance(edit, e.Insert):
            inserted.setdefault(edit.before, []).append(edit.node)
    dropped = {edit.node for edit in edits if isinstance(edit, e.Drop)}
    needed = {info.name for info in graph.output}.union(also) - {""}
    for position in reversed(range(len(graph.node))):
        node = graph.node[position]
        if position not in dropped and needed.intersection(node.output):
            needed.update(name for name in _reads(node, position, renamed, rewired) if name)
        for new in reversed(inserted.get(position, [])):
            if needed.intersection(new.output):
                needed.update(name for name in new.input if name)
    return needed


def _reads(
    node: onnx.NodeProto, position: int, renamed: Mapping[str, str], rewired: Mapping[tuple[int, int], str]
) -> Iterator[str]:
    """Values that a node reads, in its subgraphs as well."""
    count = max([len(node.input), *(i + 1 for at, i in rewired if at == position)])
    for i in range(count):
        name = rewired.get((position, i), node.input[i] if i < len(node.input) else "")
        yield renamed.get(name, name)
    for attribute in node.attribute:
        for body in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            for step in e.readers(body.node):
                yield from (renamed.get(name, name) for name in step.input)
            yield from (renamed.get(info.name, info.name) for info in body.output)
