"""Where the nodes and tensors of a derived graph stand in the file that is being patched."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from search.graph.edit import edits as e
from search.graph.ir import Array, Node
from search.graph.messages import bodies, reads
from search.graph.sources import Tensor
from search.graph.upload import overridable, without_numbers


class InFunction(Exception):
    """A change belongs into the body of a local function, which all of its calls share."""


class Place:
    """A message, the same with its local functions inlined, and of every node of that its position in the message."""

    def __init__(self, proto: onnx.ModelProto, flat: onnx.ModelProto, positions: Sequence[int | None]) -> None:
        self.graph = proto.graph
        self._flat = flat
        self._positions = positions
        self._default_inputs = overridable(proto)
        self._shown = {info.name for info in self.graph.output}
        self.maker = {name: i for i, node in enumerate(self.graph.node) for name in node.output if name}
        """Value to the position of the node that makes it."""
        nodes = list(e.readers(self.graph.node))
        self._names = {
            *(tensor.name for tensor in self.graph.initializer),
            *(info.name for infos in (self.graph.input, self.graph.value_info) for info in infos),
            *(name for node in nodes for name in (*node.output, *node.input)),
        }
        given = {info.name for info in self.graph.input} | {tensor.name for tensor in self.graph.initializer}
        self._values = given | set(self.maker)
        self._node_names = {node.name for node in nodes}
        self._known = {tensor.name for tensor in flat.graph.initializer}
        self._readers: dict[str, list[int]] = {}
        """Value to the positions in the flat file of its readers, those that read it within a body among them."""
        for i, node in enumerate(flat.graph.node):
            if node.op_type == "Constant" and not node.domain:
                self._known.update(node.output)
            for name in reads(node):
                self._readers.setdefault(name, []).append(i)

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
        """A name of a value that the file does not have, kept from now on."""
        return _fresh(name, self._names)

    def fresh_node(self, name: str) -> str:
        """A name of a node that the file does not have: ONNX Runtime refuses two nodes of one name."""
        return _fresh(name, self._node_names)

    def constant(
        self, sites: Sequence[tuple[int | None, int]], what: str, value: Array, dtype: np.dtype[Any]
    ) -> Iterator[e.Edit]:
        """Inputs of nodes, in the type that they have now, become one constant of their own.

        Args:
            sites: (position of a node in the flat file, its input).
            what: for its name.
            value: of the constant.
            dtype: where the file does not say it.
        """
        places = [(self.position(origin), position) for origin, position in sites]
        node, position = places[0]
        new = self.fresh(f"{self.graph.node[node].output[0]}.{what}{position}")
        inputs = self.graph.node[node].input
        yield e.Add(new, value.astype(self.type_of(inputs[position], dtype) if position < len(inputs) else dtype))
        for node, position in places:
            yield e.Rewire(node, position, new)

    def visible(self, name: str) -> str:
        """A value of the flat file under a name that the message has outside of its functions.

        Raises:
            InFunction: there is none.
        """
        if name in self._values:
            return name
        copies = (self._flat.graph.node[i] for i in self._readers.get(name, ()))
        for node in copies:
            if node.op_type in ("Identity", "Dropout") and not node.domain:
                return self.visible(node.output[0])
        raise InFunction

    def type_of(self, name: str, otherwise: np.dtype[Any]) -> np.dtype[Any]:
        """Type of a value in the file, as far as onnx's inference knows it."""
        code = self._types.get(name, 0)
        return np.dtype(helper.tensor_dtype_to_np_dtype(code)) if code else otherwise

    @functools.cached_property
    def _types(self) -> dict[str, int]:
        """Value to the code of its type."""
        bare = without_numbers(self._flat)
        try:
            found = onnx.shape_inference.infer_shapes(bare).graph
        except onnx.shape_inference.InferenceError:
            found = self._flat.graph
        infos = (*found.value_info, *found.input, *found.output)
        types = {info.name: info.type.tensor_type.elem_type for info in infos}
        return types | {tensor.name: tensor.data_type for tensor in found.initializer}

    def left_out(self, node: Node) -> Iterator[e.Edit]:
        """Inputs that the derived node does without are left out of the file's node as well."""
        position = self.position(node.origin)
        for i, name in enumerate(self.graph.node[position].input):
            if name and i < len(node.inputs) and not node.inputs[i]:
                yield e.Rewire(position, i, "")

    def name_of(self, tensor: Tensor) -> str:
        """The value that a tensor of the file is."""
        return tensor.name if tensor.node is None else str(self._flat.graph.node[tensor.node].output[0])

    def only_readers(self, tensor: Tensor, sites: Collection[tuple[int | None, int]]) -> bool:
        """Whether some inputs of nodes of the flat file, and nobody else, read a tensor."""
        name = self.name_of(tensor)
        if name in self._shown or name in self._default_inputs:
            return False
        found: set[tuple[int | None, int]] = set()
        for i in self._readers.get(name, ()):
            node = self._flat.graph.node[i]
            if any(True for _ in bodies(node)):
                return False
            found.update((i, position) for position, read in enumerate(node.input) if read == name)
        return found == set(sites)

    def read_by_others(self, tensor: Tensor, known: set[int]) -> bool:
        """Whether anything but some nodes of the flat file reads a tensor, or what movements among these make of it."""
        waiting = [self.name_of(tensor)]
        moved = set(waiting)
        while waiting:
            name = waiting.pop()
            if name in self._shown or name in self._default_inputs:
                return True
            for i in self._readers.get(name, ()):
                node = self._flat.graph.node[i]
                if i not in known or name not in node.input:
                    return True
                if all(read in moved or read in self._known for read in node.input if read):
                    new = {made for made in node.output if made} - moved
                    waiting += new
                    moved |= new
        return False


def _fresh(name: str, taken: set[str]) -> str:
    found, count = name, 0
    while found in taken:
        count += 1
        found = f"{name}_{count}"
    taken.add(found)
    return found
