"""A network run by ONNX Runtime part after part, on the same batches: between two parts the weights behind may change.

Inside a part the runtime fuses and lays out as it likes, so a part costs what it costs in the file that is deployed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx

from search.graph.ir import Array, Graph, Node, TensorInfo
from search.graph.proto import from_graph
from search.graph.run.execute import needed
from search.graph.run.runtime import Runner
from search.graph.sampling import Sampling, samples_of

LONGEST_PART_S = 120.0
"""Of one batch of a part."""


def divided(sampling: Sampling, feeds: Mapping[str, Array], most: int) -> list[dict[str, Array]]:
    """Samples (N, ...) in equal batches as the network takes them; what is over of the last is left out.

    Args:
        sampling: where samples stand. A network that is not native gets chunk after chunk.
        feeds: samples of every input.
        most: samples of a batch, where the network takes any number.
    """
    if not sampling.native:
        chunks = sampling.chunks(feeds)
        return [{name: np.asarray(value[i]) for name, value in chunks.items()} for i in range(samples_of(chunks))]
    count = samples_of(feeds)
    batches = -(-count // max(1, most))
    size = count // batches
    return [
        {name: np.asarray(value[i * size : (i + 1) * size]) for name, value in feeds.items()} for i in range(batches)
    ]


class Part:
    """Some nodes of a network, with the weights that they have now."""

    def __init__(
        self, graph: Graph, nodes: Sequence[Node], given: Sequence[Mapping[str, Array]], outputs: Sequence[str]
    ) -> None:
        """Load it.

        Args:
            graph: the network, with its weights.
            nodes: of it, in order.
            given: values of every batch that the nodes may read; their sizes are fixed where all batches have the same.
            outputs: values that are wanted.

        Raises:
            NotImplementedError: ONNX Runtime refuses it.
        """
        made = {name for node in nodes for name in node.outputs}
        read = {name for node in nodes for name in node.inputs if name} - made
        self.inputs = sorted(name for name in read if name in given[0])
        self.outputs = list(outputs)
        infos = tuple(
            TensorInfo(name, given[0][name].dtype, _common([values[name].shape for values in given]))
            for name in self.inputs
        )
        weights = {name: graph.initializers[name] for name in sorted(read) if name not in given[0]}
        part = graph.replace(nodes=tuple(nodes), inputs=infos, outputs=(), initializers=weights)
        proto = from_graph(part)
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in self.outputs)
        self._runner = Runner(proto.SerializeToString(), optimised=True)

    def __call__(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs of one batch.

        Raises:
            ResourceLimit, NotImplementedError: as `Runner` does.
        """
        feeds = {name: values[name] for name in self.inputs}
        made = self._runner(feeds, self.outputs, longest_s=LONGEST_PART_S)
        return dict(zip(self.outputs, made, strict=True))


def _common(shapes: Sequence[tuple[int, ...]]) -> tuple[int | None, ...]:
    return tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*shapes, strict=True))


def values_of(graph: Graph, batches: Sequence[Mapping[str, Array]], names: Sequence[str]) -> Iterator[dict[str, Array]]:
    """Some values of a network, batch by batch, each as it stands in the network."""
    wanted = sorted(set(names) - batches[0].keys())
    part = Part(graph, needed(graph, wanted), batches, wanted) if wanted else None
    for values in batches:
        yield {**values, **(part(values) if part is not None else {})}


def stop_by_stop(
    graph: Graph,
    params: Mapping[str, Array],
    batches: Sequence[Mapping[str, Array]],
    stops: Mapping[str, Sequence[str]],
) -> Iterator[tuple[str, list[dict[str, Array]]]]:
    """Run on from node to node, and stand before each with the values that are wanted there.

    Args:
        graph: the network.
        params: initializers that differ from the graph's; read when a node is about to run, so a stop may change those that
            nodes behind it read.
        batches: as `divided` gives them.
        stops: nodes, in the order of the graph, to the values that are wanted before they run.

    Yields:
        The name of a node, and for every batch the values that are alive, those that are wanted among them.
    """
    nodes = needed(graph, [name for wanted in stops.values() for name in wanted])
    place = {node.name: i for i, node in enumerate(graph.nodes)}
    ends = [place[name] for name in stops]
    parts = [
        [node for node in nodes if begin <= place[node.name] < end]
        for begin, end in zip([0, *ends], ends, strict=False)
    ]
    alive: list[dict[str, Array]] = [dict(values) for values in batches]
    wanted = list(stops.values())
    for i, (name, part) in enumerate(zip(stops, parts, strict=True)):
        later = {read for behind in parts[i + 1 :] for node in behind for read in node.inputs}
        later.update(value for values in wanted[i + 1 :] for value in values)
        outputs = sorted({made for node in part for made in node.outputs} & {*later, *wanted[i]})
        if outputs:
            run = Part(graph.with_initializers(params), part, alive, outputs)
            for values in alive:
                values.update(run(values))
        yield name, alive
        for values in alive:
            for gone in values.keys() - later:
                del values[gone]
