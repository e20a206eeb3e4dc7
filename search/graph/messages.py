"""What nodes of a message read, bodies of control flow among them, and new names for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx


def reads(node: onnx.NodeProto) -> list[str]:
    """Names that a node reads, those that its bodies capture among them."""
    names = [*node.input, *(name for body in bodies(node) for name in _captured(body))]
    return list(dict.fromkeys(name for name in names if name))


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs among a node's attributes."""
    for item in node.attribute:
        if item.HasField("g"):
            yield item.g
        yield from item.graphs


def _captured(body: onnx.GraphProto) -> list[str]:
    made = {info.name for info in body.input} | {tensor.name for tensor in body.initializer}
    found = []
    for node in body.node:
        found += [name for name in reads(node) if name not in made]
        made.update(node.output)
    return found + [info.name for info in body.output if info.name not in made]


def rename(nodes: Sequence[onnx.NodeProto], names: Mapping[str, str]) -> None:
    """Rename values in place, in bodies too; ONNX lets no name of a body hide one from outside."""
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for body in bodies(node):
            rename(body.node, names)
            for info in body.output:
                info.name = names.get(info.name, info.name)
