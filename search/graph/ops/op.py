"""What the engine knows of one operator, and short ways to say it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

from hwprofiles.workload import Kind, Workload
from search.graph import flow
from search.graph.ir import Graph, Node
from search.graph.ops import lower_math
from search.graph.ops.cut import Cut
from search.graph.ops.elements import Elements, broadcasting, no_more
from search.graph.ops.linear_map import Linear
from search.graph.ops.lower import Lower, Value, binary, unary, variadic
from search.graph.ops.price import Shapes

Price = Callable[[Node, Workload, Sequence[str], Shapes], Workload]
"""(node, a workload of the operator's kind, names of the inputs that are no constants, shapes) to a device's kernel."""


@dataclasses.dataclass(frozen=True)
class Op:
    """One entry of the table. What is not said has the default that costs speed-up, never correctness."""

    lower: Lower | Callable[[int], Lower]
    """The computation; with ``by_opset`` a function that gives it for a version."""
    flow: flow.Flow = flow.freeze
    """How unit ids pass when channels are coupled."""
    weights: tuple[int, ...] = ()
    """Inputs that hold trainable weights."""
    static: tuple[int, ...] = ()
    """Inputs that decide the output's shape, or which elements are read: they are known before the network runs."""
    by_opset: bool = False

    apart: Literal["elements", "samples"] | None = None
    """What never meets: elements (operands broadcast), or samples, what lies along axis 0 of (N, C, ...)."""
    moves: Literal["first", "all"] | None = None
    """Operands whose elements, unchanged, are those of the results; the others say sizes, axes, indices."""
    of_shapes: bool = False
    """The result depends on shapes and on the ``static`` operands only."""
    by_data: bool = False
    """Outputs may have the same size on all that was tried, and yet another one on other data."""
    of_lists: bool = False
    """Works on sequences of tensors."""
    reads_bits: bool = False
    """Reads the bits of numbers; the search computes in float32 and int32 whatever the file has, and so has other bits."""
    wraps: bool = False
    """Integers may outgrow 32 bits on purpose: hashes."""
    zeros: tuple[int, ...] = ()
    """Inputs that are zeros where they are left out."""
    quantised: bool = False
    """Stands in networks that were quantised."""
    elements: Elements = broadcasting
    """Elements of the largest output, at most."""

    scores: Literal["makes", "passes"] | None = None
    """Ends a classifier: a softmax, a product with weights, the mean over a map of scores; or may stand behind such an end."""

    cut: Callable[[Node, Cut], Node] | None = None
    """The node as it must be where units were cut: what it says about sizes."""
    told: bool | Callable[[Node], bool] = False
    """Whether ONNX's own inference tells the shape of its one output, and any such use that the checker takes is computed."""
    fits: Callable[[Node, Sequence[tuple[int, ...]], tuple[int, ...]], bool] | None = None
    """Where the shape is told: whether operands suit each other and the output in what the inference does not look at."""
    sized_as: str = ""
    """Of another domain than ONNX's own: the operator there whose output has the same sizes."""
    sized_by: int | None = None
    """The operand that names the output's sizes."""
    linear: Callable[[Node, Graph], Linear | None] | None = None
    """The operator as a linear map that least squares can refit."""
    output_axis: Callable[[Node], int | None] | None = None
    """Axis of the output channels of weight 1, whose bias is input 2, where a norm behind can be folded into both."""
    channel_axis: Literal[1, -1] | None = None
    """Where the output's channels stand; None where they stand as in the input."""

    kind: Kind | None = None
    """Kind of the kernel that a device runs; None when the operator costs nothing at run time."""
    fused: Literal["activation", "norm", "addition", "scale"] | None = None
    """As what it runs inside the kernel that produces its first input."""
    price: Price | None = None
    """The kernel, where it is no pass over elements."""
    product: bool = False
    """A matrix unit runs it faster on narrower floats."""
    in_cluster: bool = False
    """LiteRT runs it between sparse products, see `search.space.structures.cluster`."""

    def lowering(self, opset: int) -> Lower:
        """The computation for a version of the operator set."""
        return self.lower(opset) if self.by_opset else self.lower  # type: ignore[return-value, call-arg, arg-type]

    @property
    def grows(self) -> bool:
        """Whether it may make far more than it reads and than its operands broadcast to."""
        return self.elements not in (broadcasting, no_more)

    def moved(self, node: Node) -> range:
        """Positions of the operands whose elements are those of the results."""
        return range({None: 0, "first": 1, "all": len(node.inputs)}[self.moves])


def pointwise(function: Callable[[Any, Value], Value], **more: Any) -> Op:
    """A function of one element, given as ``function(namespace, x)``."""
    return by_element(unary(function), **more)


def activation(function: Callable[..., Value], *, told: bool = False, **defaults: float) -> Op:
    """A function of one element with attributes, given as ``function(namespace, x, *attributes)``."""
    return by_element(lower_math.with_attributes(function, **defaults), told=told)


def by_element(function: Lower, **more: Any) -> Op:
    """Any other function of one element; ``more`` says what else is known."""
    known = {"flow": flow.same, "apart": "elements", "kind": "elementwise", "fused": "activation"}
    return Op(function, **{**known, **more})


def by_elements(function: Lower, **more: Any) -> Op:
    """A function of several operands, element by element."""
    return Op(function, **{"flow": flow.elementwise, "apart": "elements", "kind": "elementwise", **more})


def arithmetic(name: str, **more: Any) -> Op:
    """A function of two operands whose constants are weights."""
    return by_elements(binary(name), weights=(0, 1), **more)


def comparison(name: str, **more: Any) -> Op:
    """A function of two operands without weights."""
    return by_elements(binary(name), **more)


def folded(name: str) -> Op:
    """A function of any number of operands."""
    return by_elements(variadic(name))


def selection(function: Lower, *static: int, **more: Any) -> Op:
    """Elements are chosen by what other operands say; channels are not followed. ``static`` as for `Op`."""
    return Op(function, static=static, kind="data_movement", **more)


def constant(function: Lower | Callable[[int], Lower], *static: int, **more: Any) -> Op:
    """A value that depends on shapes only, and on operands that are ``static``."""
    return Op(function, flow.forget, static=static, of_shapes=True, **more)
