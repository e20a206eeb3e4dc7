"""A small, immutable picture of an ONNX graph: nodes in topological order, weights as arrays."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from search.graph.sampling import Sampling
from search.graph.upload import Upload
from search.wire.report import NodeKinds

Array = np.ndarray[Any, Any]
Params = Mapping[str, Array]
CARRIED = "secateur.carried"
"""Domain of nodes that stand for a part of the file that ONNX Runtime runs as it is; attribute ``model`` holds that part."""


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether a type holds weights as they are trained: numpy's own floats, and bfloat16, which numpy does not know."""
    return bool(np.issubdtype(dtype, np.floating)) or dtype.name == "bfloat16"


@dataclasses.dataclass(frozen=True)
class Node:
    """One operator. Empty strings stand for optional inputs and outputs that are left out, as in ONNX."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    domain: str = ""
    origin: int | None = dataclasses.field(default=None, compare=False)
    """Position among the nodes of the file that the graph was read from; None for a node that a rewrite made."""

    def get(self, attribute: str, default: Any = None) -> Any:
        """An attribute, or the operator's default."""
        return self.attributes.get(attribute, default)

    @property
    def is_carried(self) -> bool:
        """Whether ONNX Runtime runs it as it is."""
        return self.domain == CARRIED

    def renamed(self, name: str) -> Node:
        """The same node under another name."""
        return dataclasses.replace(self, name=name)

    def input(self, position: int) -> str:
        """Name of an input, ``""`` where it is left out."""
        return self.inputs[position] if position < len(self.inputs) else ""


class Source(Protocol):
    """Where the numbers of an initializer stand in the file; `search.graph.sources` has the kinds."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Their type in the file."""


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """An input or output of the graph. A dimension is a number, a name (symbolic) or None (unknown)."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]


@dataclasses.dataclass(frozen=True)
class Frame:
    """What the file has around the graph that we look into, run by ONNX Runtime as it is."""

    inputs: tuple[TensorInfo, ...]
    """Of the file."""
    outputs: tuple[TensorInfo, ...]
    """Of the file."""
    head: Node | None
    """Makes inputs of the graph of those of the file; run once a data set."""
    tail: Node | None
    """Makes outputs of the file of those of the graph; nothing of ours depends on it."""
    constants: Params
    """What head and tail read of the file's initializers."""


@dataclasses.dataclass(frozen=True)
class Graph:
    """A normalised graph: every constant is an initializer, every name is unique, nothing is dead."""

    nodes: tuple[Node, ...]
    initializers: Params
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    opsets: Mapping[str, int]
    ir_version: int
    name: str = "graph"
    sampling: Sampling = dataclasses.field(default_factory=Sampling)
    """How samples stand in the inputs and outputs."""
    upload: Upload | None = dataclasses.field(default=None, compare=False)
    """The file that the graph was read from."""
    sources: Mapping[str, Source] = dataclasses.field(default_factory=dict, compare=False)
    """Initializer to where its numbers stand in that file (`search.graph.sources`); those of rewrites have none."""
    fixed: frozenset[str] = frozenset()
    """Initializers that callers may override (inputs with a default), and what is computed of them: they stay as they are."""
    frame: Frame | None = None
    """None where the graph is the whole file."""
    kinds: NodeKinds | None = None
    """Of the nodes of the file."""

    @property
    def given(self) -> tuple[TensorInfo, ...]:
        """What a caller of the file must give."""
        return self.inputs if self.frame is None else self.frame.inputs

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        return self.opsets[""]

    @property
    def parameter_count(self) -> int:
        """Floats of all weights; one that several names stand for, because several nodes share it, counts once."""
        sizes = {id(self.initializers[name]): self.initializers[name].size for name in self.float_initializers()}
        return sum(sizes.values())

    def consumers(self) -> dict[str, list[Node]]:
        """Value name to the nodes that read it."""
        return self._consumers

    @functools.cached_property
    def _consumers(self) -> dict[str, list[Node]]:
        readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                if value:
                    readers.setdefault(value, []).append(node)
        return readers

    def producers(self) -> dict[str, Node]:
        """Value name to the node that writes it."""
        return {value: node for node in self.nodes for value in node.outputs if value}

    def states(self) -> frozenset[str]:
        """Inputs that look like states: an output may have their type and shape, while another input looks like none.

        Sizes that either side leaves free may be the same; one at least is a number above 1. A single input is never a state.
        """
        outputs = self.outputs if self.frame is None else self.frame.outputs
        alike = frozenset(info.name for info in self.given if any(_may_become(made, info) for made in outputs))
        return alike if len(alike) < len(self.given) else frozenset()

    def replace(self, **changes: Any) -> Graph:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def with_initializers(self, changes: Params) -> Graph:
        """A copy with some initializers changed."""
        return self.replace(initializers={**self.initializers, **changes})

    def float_initializers(self) -> Iterator[str]:
        """Names of the initializers that hold floats: weights, but also scales and constants."""
        return (name for name, value in self.initializers.items() if is_float(value.dtype))


def _may_become(made: TensorInfo, given: TensorInfo) -> bool:
    """Whether an output may be the next value of an input."""
    return (
        made.dtype == given.dtype
        and len(made.shape) == len(given.shape)
        and any(isinstance(size, int) and size > 1 for size in given.shape)
        and all(
            a == b for a, b in zip(made.shape, given.shape, strict=True) if isinstance(a, int) and isinstance(b, int)
        )
    )
