"""Divide a file into what we understand and what ONNX Runtime carries.

A node is *understood* where JAX computes it: an operator of the table, on tensors of real numbers whose sizes are known before
anything runs. Everything else is *carried*. Carried nodes in front of all that is understood are the head, those behind all of
it the tail: neither is part of the graph that the search works on. Those between become one node for each level, the largest
number of changes between both kinds on any path: levels make no circles. Values that cannot cross a border (strings,
sequences, sizes that depend on the data) are computed again on the other side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.inliner

from search.graph.ir import CARRIED, Array, Frame, Graph, Node, TensorInfo
from search.graph.lazy_jax import jax, jnp
from search.graph.messages import reads
from search.graph.onnx.extract import extract
from search.graph.onnx.observe import Observation, inputs_of, observe
from search.graph.ops import of
from search.graph.run.execute import apply_node
from search.wire.errors import UnsupportedOperator
from search.wire.report import CarriedNode, NodeKinds

OLDEST_UNDERSTOOD = 7
"""Operator set from which on operands broadcast as they do now."""
MOST_NAMED = 3


def needs_care(graph: Graph) -> bool:
    """Whether a graph may hold nodes that are not for us, as far as can be told from names and types."""
    values = (*graph.inputs, *graph.outputs)
    foreign = graph.opset < OLDEST_UNDERSTOOD or any(info.dtype.kind in "OUSc" for info in values)
    return foreign or any(
        (entry := of(node)) is None or entry.by_data or entry.wraps or entry.of_lists or entry.reads_bits
        for node in graph.nodes
    )


def kinds(graph: Graph) -> NodeKinds:
    """Kinds of the nodes of a graph that is wholly understood."""
    shapes = len(_of_sizes(graph))
    return NodeKinds(len(graph.nodes) - shapes, shapes)


def carve(
    proto: onnx.ModelProto,
    graph: Graph,
    samples: Sequence[Mapping[str, Array]] = (),
    runs: Sequence[Mapping[str, tuple[int, ...]]] = (),
) -> Graph:
    """The understood part of a file, its head and tail beside it.

    Args:
        proto: a checked model.
        graph: the same, as `search.graph.proto.to_graph` reads it.
        samples: that the model is looked at with, as for `search.graph.onnx.observe.observe`.
        runs: alike.

    Raises:
        UnsupportedOperator: ONNX Runtime does not run the file; names the first node that is not for us.
        ResourceLimit: a carried node runs too long; names the node.
    """
    proto = onnx.inliner.inline_local_functions(proto) if proto.functions else proto
    try:
        seen = observe(proto, samples, runs)
    except NotImplementedError as error:
        foreign = next((node for node in graph.nodes if of(node) is None), None)
        if foreign is None:
            return graph.replace(kinds=kinds(graph))
        operator = f"{foreign.domain}::{foreign.op}" if foreign.domain else foreign.op
        raise UnsupportedOperator(
            f"node `{foreign.name}`: operator {operator} is left to ONNX Runtime, which does not run the file: {error}; "
            "run it with onnxruntime, and fix sizes that it needs",
            node=foreign.name,
            operator=operator,
        ) from error
    division = _Division(proto, graph, seen)
    return division.graph() if division.why else graph.replace(kinds=kinds(graph))


class _Division:
    """Which node goes where. Nodes are positions in the file; ``why`` holds the carried ones."""

    def __init__(self, proto: onnx.ModelProto, graph: Graph, seen: Observation) -> None:
        self.proto, self.whole, self.seen = proto, graph, seen
        self.inputs = {info.name for info in inputs_of(proto)}
        self.outputs = [info.name for info in proto.graph.output]
        self.reads = [reads(node) for node in proto.graph.node]
        self.makes = [[name for name in node.output if name] for node in proto.graph.node]
        self.maker = {name: i for i, names in enumerate(self.makes) for name in names}
        self.readers: dict[str, list[int]] = {}
        for i, names in enumerate(self.reads):
            for name in names:
                self.readers.setdefault(name, []).append(i)
        self.of_sizes = _of_sizes(graph)
        self.static: set[int] = set()
        self.opaque = {name for name in (*self.maker, *self.inputs) if not seen.is_number(name)}
        self.why: dict[int, str] = {}
        self._classify()

    def _classify(self) -> None:
        """Trace the graph; what JAX cannot trace is carried, and stands there with the shapes that were seen."""
        if self.seen.failure or self.whole.opset < OLDEST_UNDERSTOOD:
            sizes = (
                f"no sizes were found at which the file runs on random data ({self.seen.failure}); fix its free sizes"
            )
            age = f"operator set {self.whole.opset} is older than {OLDEST_UNDERSTOOD}, the first that is understood"
            self.why = dict.fromkeys(range(len(self.reads)), sizes if self.seen.failure else age)
            return
        looked = self.seen.looks[0]

        def trace(feeds: dict[str, Any]) -> int:
            values: dict[str, Any] = {**self.whole.initializers, **feeds}
            with jax.numpy_rank_promotion("allow"):  # ONNX broadcasts by definition
                for i, node in enumerate(self.whole.nodes):
                    made = self._understood(i, node, values)
                    if made is None:
                        self._judge_sizes(i, values)
                        made = [self._stand_in(name) for name in node.outputs]
                    elif all(value is None or isinstance(value, np.ndarray | np.generic) for value in made):
                        self.static.add(i)
                    values.update(
                        {n: v for n, v in zip(node.outputs, made, strict=False) if n and n not in self.opaque}
                    )
            return 0

        numbers = [info for info in self.whole.inputs if info.name not in self.opaque]
        jax.eval_shape(trace, {info.name: _spec(looked[info.name], info.dtype) for info in numbers})

    def _understood(self, i: int, node: Node, values: dict[str, Any]) -> Sequence[Any] | None:
        """What a node makes where it is understood; else the reason is noted."""
        read = self.reads[i]
        constant = all(isinstance(values.get(name), np.ndarray) for name in read)
        wide = [n for n in (*read, *self.makes[i]) if n in self.seen.wide and not isinstance(values.get(n), np.ndarray)]
        entry = of(node)
        if entry is None:
            self.why[i] = "the operator is not among those that are pruned"
        elif not self.opaque.isdisjoint((*read, *self.makes[i])):
            self.why[i] = "it works on strings, sequences, or sizes that depend on the data"
        elif entry.reads_bits and not constant:
            self.why[i] = "it reads the bits of numbers, which have another type here"
        elif entry.by_data and not constant:
            self.why[i] = "the size of its output depends on the data"
        elif wide and not constant and i not in self.of_sizes:
            self.why[i] = f"`{wide[0]}` has integers of more than 32 bits"
        else:
            try:
                return apply_node(node, [values[name] if name else None for name in node.inputs], self.whole.opset)
            except UnsupportedOperator as error:
                self.why[i] = error.detail.partition("cannot be run: ")[2].partition(";")[0] or error.detail
        return None

    def _judge_sizes(self, i: int, values: dict[str, Any]) -> None:
        """Note which outputs of a carried node have no size that is known before it runs."""
        first, moved = self.seen.looks[0], self.seen.moved
        unknown = [name for name in self.reads[i] if name in self.opaque and self.seen.is_number(name)]
        unsure = bool(unknown) and not any(moved(name) for name in unknown)
        entry = of(self.whole.nodes[i])
        moving = any(not isinstance(values.get(name), np.ndarray) for name in self.reads[i])
        by_data = entry is not None and entry.by_data and moving
        for name in self.makes[i]:
            if by_data or unsure or moved(name) or 0 in first.get(name, (0,)):
                self.opaque.add(name)

    def _stand_in(self, name: str) -> Any:
        if not name or name in self.opaque:
            return None
        dtype = jax.dtypes.canonicalize_dtype(self.seen.dtype(name))
        return jnp.zeros(self.seen.looks[0][name], dtype)

    def graph(self) -> Graph:
        """The inner graph with its frame."""
        tail = self._tail(())
        head = self._head(tail)
        while stuck := self._stuck(head, tail):
            tail = self._tail(stuck | tail)
            head = self._head(tail)
        inner = [i for i in range(len(self.reads)) if i not in head | tail]
        nodes = self._nodes(inner)
        read = {name for node in nodes for name in node.inputs}
        outputs = self._borders(inner, tail)
        given = [info for info in self.whole.inputs if info.name in read or info.name in outputs]
        made = [name for i in sorted(head) for name in self.makes[i] if name in read]
        frame = self._frame(head, made, tail)
        constants = {name: v for name, v in self.whole.initializers.items() if name in read or name in outputs}
        return self.whole.replace(
            nodes=nodes,
            inputs=(*given, *(self._info(name) for name in made)),
            outputs=tuple(self._info(name) for name in outputs),
            initializers=constants,
            frame=frame,
            kinds=self._kinds(),
        )

    def _head(self, tail: set[int]) -> set[int]:
        """Carried nodes that need nothing of what is understood, if samples stand first in all that they make."""
        found: set[int] = set()
        known = self.inputs | set(self.whole.initializers)
        for i, names in enumerate(self.reads):
            if known.issuperset(names) and (i in self.why or i in self.static):
                known.update(self.makes[i])
                found |= {i} & (self.why.keys() - tail)
        borders = [n for i in found for n in self.makes[i] if n not in self.opaque and self._leaves(n, found | tail)]
        return found if all(self._has_samples(name) for name in borders) else set()

    def _leaves(self, name: str, inside: set[int]) -> bool:
        return any(i not in inside for i in self.readers.get(name, ()))

    def _has_samples(self, name: str) -> bool:
        """Whether axis 0 of a value has the size of axis 0 of the inputs, in every look."""
        batches = [{look[info.name][:1] for info in self.whole.inputs if info.name in look} for look in self.seen.looks]
        return all(
            look[name][:1] in batch for look, batch in zip(self.seen.looks, batches, strict=True) if name in look
        )

    def _tail(self, forced: Iterable[int]) -> set[int]:
        """Carried nodes behind which nothing is understood, what leads there only, and all behind the ``forced`` ones."""
        behind = set(forced)
        for i, names in enumerate(self.reads):
            if any(self.maker.get(name) in behind for name in names):
                behind.add(i)
        found: set[int] = set()
        for i in reversed(range(len(self.reads))):
            after = [reader for name in self.makes[i] for reader in self.readers.get(name, ())]
            ends = all(reader in found for reader in after)
            if i in behind or (ends and (i in self.why or (after and self._mixes_samples(i)))):
                found.add(i)
        return found

    def _mixes_samples(self, i: int) -> bool:
        """Whether a node makes inner values that do not go by samples: nothing can be judged by them."""
        inner = not any(name in self.outputs for name in self.makes[i])
        return inner and i not in self.static and not all(self._has_samples(name) for name in self.makes[i])

    def _stuck(self, head: set[int], tail: set[int]) -> set[int]:
        """Carried nodes between that need an input of the file which cannot enter our graph."""
        middle = [i for i in self.why if i not in head | tail]
        return {i for i in middle if any(n in self.inputs and n in self.opaque for n in self._roots({i}))}

    def _roots(self, chosen: set[int]) -> list[str]:
        """What a part reads from outside once values that cannot cross are computed again within."""
        made = {name for i in self._closed(chosen) for name in self.makes[i]}
        return list(dict.fromkeys(n for i in sorted(self._closed(chosen)) for n in self.reads[i] if n not in made))

    def _closed(self, chosen: set[int]) -> set[int]:
        """Nodes with those that make what they read and what cannot cross a border; constants are always taken along."""
        found, waiting = set(chosen), list(chosen)
        while waiting:
            for name in self.reads[waiting.pop()]:
                maker = self.maker.get(name)
                if maker is None or maker in found:
                    continue
                if name in self.opaque or self.proto.graph.node[maker].op_type == "Constant":
                    found.add(maker)
                    waiting.append(maker)
        return found

    def _nodes(self, inner: Sequence[int]) -> tuple[Node, ...]:
        """Understood nodes, and one for the carried ones of every level, in order."""
        level: dict[int, int] = {}
        for i in inner:
            before = [maker for name in self.reads[i] if (maker := self.maker.get(name)) in level]
            mine = i in self.why
            level[i] = max((level[b] + ((b in self.why) != mine) for b in before), default=int(mine))
        nodes: list[tuple[int, int, Node]] = [(level[i], i, self.whole.nodes[i]) for i in inner if i not in self.why]
        for odd in sorted({level[i] for i in inner if i in self.why}):
            chosen = {i for i in inner if i in self.why and level[i] == odd}
            inside = self._closed(chosen)
            outside = [
                n for i in sorted(chosen) for n in self.makes[i] if n not in self.opaque and self._leaves(n, inside)
            ]
            outside += [
                n for i in chosen for n in self.makes[i] if n in self.outputs and n not in (*self.opaque, *outside)
            ]
            if outside:
                nodes.append((odd, min(chosen), self._segment(chosen, outside)))
        return tuple(node for _, _, node in sorted(nodes, key=lambda item: item[:2]))

    def _segment(self, chosen: set[int], outputs: Sequence[str], *, also: Iterable[int] = ()) -> Node:
        inside = self._closed(chosen) | set(also)
        model = extract(self.proto, inside, outputs, self.seen)
        made = {name for i in inside for name in self.makes[i]}
        read = dict.fromkeys(name for i in sorted(inside) for name in self.reads[i] if name not in made)
        ops = list(dict.fromkeys(self.whole.nodes[i].op for i in sorted(chosen)))
        more = f" and {len(ops) - MOST_NAMED} more" if len(ops) > MOST_NAMED else ""
        name = self.whole.nodes[min(chosen)].name
        return Node(name, ", ".join(ops[:MOST_NAMED]) + more, tuple(read), tuple(outputs), {"model": model}, CARRIED)

    def _borders(self, inner: Sequence[int], tail: set[int]) -> list[str]:
        """Outputs of the file that the inner graph makes, and what the tail reads of it."""
        crosses = {
            name
            for i in inner
            if i not in self.static
            for name in self.makes[i]
            if name not in self.opaque and (name in self.outputs or any(r in tail for r in self.readers.get(name, ())))
        }
        return [
            *(n for n in self.outputs if n in crosses),
            *(n for n in self.maker if n in crosses - set(self.outputs)),
        ]

    def _frame(self, head: set[int], made: Sequence[str], tail: set[int]) -> Frame:
        first = self._segment(head, made, also=self._sized(head)) if made else None
        ends = [name for name in self.outputs if self.maker.get(name) in tail]
        last = self._segment(tail, ends, also=self._sized(tail)) if ends else None
        names = {name for node in (first, last) if node is not None for name in node.inputs}
        constants = {name: value for name, value in self.whole.initializers.items() if name in names}
        return Frame(self.whole.inputs, self.whole.outputs, first, last, constants)

    def _sized(self, chosen: set[int]) -> set[int]:
        """Shape arithmetic that head or tail read: done there again."""
        found: set[int] = set()
        waiting = list(self._closed(chosen))
        while waiting:
            for name in self.reads[waiting.pop()]:
                maker = self.maker.get(name)
                if maker in self.static and maker not in found:
                    found.add(maker)
                    waiting.append(maker)
        return found

    def _info(self, name: str) -> TensorInfo:
        known = next((info for info in (*self.whole.inputs, *self.whole.outputs) if info.name == name), None)
        return known or TensorInfo(name, self.seen.dtype(name), self.seen.shape(name))

    def _kinds(self) -> NodeKinds:
        nodes = self.whole.nodes
        named = tuple(
            CarriedNode(nodes[i].name, f"{nodes[i].domain}::{nodes[i].op}".removeprefix("::"), why)
            for i, why in self.why.items()
        )
        return NodeKinds(len(nodes) - len(named) - len(self.static), len(self.static), named)


def _of_sizes(graph: Graph) -> set[int]:
    """Nodes that depend on sizes and constants only."""
    found: set[int] = set()
    known = {*graph.initializers, ""}
    for i, node in enumerate(graph.nodes):
        entry = of(node)
        reads = [node.input(i) for i in entry.static] if entry is not None and entry.of_shapes else node.inputs
        if known.issuperset(reads) and (node.inputs or (entry is not None and entry.of_shapes)):
            known.update(node.outputs)
            found.add(i)
    return found


def _spec(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype))  # type: ignore[no-untyped-call]
