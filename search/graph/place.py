"""Where the nodes and tensors of a derived graph stand in the file that is being patched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx

from search.graph import edits as e
from search.graph.ir import Array, Node
from search.graph.sources import Tensor
from search.graph.upload import overridable


class InFunction(Exception):
    """A change belongs into the body of a local function, which all of its calls share."""


class Place:
    """A message, and of every node of the flat file its position in it."""

    def __init__(self, proto: onnx.ModelProto, positions: Sequence[int | None]) -> None:
        self.graph = proto.graph
        self._positions = positions
        self._default_inputs = overridable(proto)
        self._shown = {info.name for info in self.graph.output}
        self.maker = {name: i for i, node in enumerate(self.graph.node) for name in node.output if name}
        """Value to the position of the node that makes it."""
        self._names = {
            *self.maker,
            *(tensor.name for tensor in self.graph.initializer),
            *(info.name for infos in (self.graph.input, self.graph.value_info) for info in infos),
            *(name for node in e.readers(self.graph.node) for name in (*node.output, *node.input)),
        }

    def position(self, origin: int | None) -> int:
        """Of a node of the flat file in the message.

        Raises:
            InFunction: it stands in the body of a local function.
        """
        found = None if origin is None else self._positions[origin]
        if found is None:
            raise InFunction
        return found

    def fresh(self, name: str) -> str:
        """A name that the file does not have, kept from now on."""
        found, count = name, 0
        while found in self._names:
            count += 1
            found = f"{name}_{count}"
        self._names.add(found)
        return found

    def constant(self, origin: int | None, position: int, what: str, value: Array) -> Iterator[e.Edit]:
        """An input of a node becomes a constant of its own."""
        node = self.position(origin)
        new = self.fresh(f"{self.graph.node[node].output[0]}.{what}{position}")
        yield e.Add(new, value)
        yield e.Rewire(node, position, new)

    def left_out(self, node: Node) -> Iterator[e.Edit]:
        """Inputs that the derived node does without are left out of the file's node as well."""
        position = self.position(node.origin)
        for i, name in enumerate(self.graph.node[position].input):
            if name and i < len(node.inputs) and not node.inputs[i]:
                yield e.Rewire(position, i, "")

    def name_of(self, tensor: Tensor) -> str:
        """The value that a tensor of the file is."""
        return tensor.name if tensor.node is None else self.graph.node[self.position(tensor.node)].output[0]

    def sole_reader(self, tensor: Tensor, origin: int | None, position: int) -> bool:
        """Whether one input of one node, and nobody else, reads a tensor."""
        name, mine = self.name_of(tensor), self.graph.node[self.position(origin)]
        if name in self._shown or name in self._default_inputs:
            return False
        reads = sum(read == name for node in e.readers(self.graph.node) for read in node.input)
        return reads == 1 and position < len(mine.input) and mine.input[position] == name

    def read_by_others(self, tensor: Tensor, known: set[int]) -> bool:
        """Whether anything but some nodes of the flat file reads a tensor, or what those movements make of it."""
        mine = {self._positions[origin] for origin in known}
        names = {self.name_of(tensor)}
        if names & (self._shown | self._default_inputs):
            return True
        for position, node in enumerate(self.graph.node):
            if names.intersection(_inside(node)):
                return True
            if names.intersection(node.input):
                if position not in mine:
                    return True
                if all(name in names or name in self._constants for name in node.input if name):
                    names.update(node.output)
        return bool(names & self._shown)

    @property
    def _constants(self) -> set[str]:
        found = {tensor.name for tensor in self.graph.initializer}
        return found | {name for node in self.graph.node if node.op_type == "Constant" for name in node.output}


def _inside(node: onnx.NodeProto) -> Iterator[str]:
    """Values that the subgraphs of a node read."""
    for attribute in node.attribute:
        for body in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            yield from (name for step in e.readers(body.node) for name in step.input)
            yield from (info.name for info in body.output)
