"""New numbers of a derived graph's initializers, carried back to the tensors of the upload."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from search.errors import SecateurError
from search.graph import edits as e
from search.graph.ir import Array, Graph
from search.graph.place import Place
from search.graph.sources import (
    Claim,
    Entry,
    Folded,
    Moved,
    Source,
    Stored,
    Tensor,
    Unclaimable,
    claims,
    leaves,
    nodes_of,
    unfolded,
)

Keeps = Mapping[str, Mapping[int, Array]]
"""Initializer to axis to a boolean vector: True stays. What is not named stays whole."""


def number_edits(dense: Graph, final: Graph, keeps: Keeps, place: Place) -> list[e.Edit]:
    """Edits that give what is left of a derived graph's initializers their new numbers in the file.

    A tensor that several initializers came from is written once where they agree. Where they do not, where something else reads
    it too, or where arithmetic lies in between, the changed ones become tensors of their own.

    Args:
        dense: as it was derived from the file.
        final: a graph made from it, under the same names.
        keeps: positions that stay of the initializers that became smaller.
        place: where things stand in the file.
    """
    entries = list(_entries(dense, final, keeps))
    touched = {leaf.tensor for entry in entries if entry.changed for leaf in leaves(entry.source)}
    mine = [entry for entry in entries if entry.changed or any(x.tensor in touched for x in leaves(entry.source))]
    claimed: dict[int, list[Claim]] = {}
    own: set[int] = set()
    for i, entry in enumerate(mine):
        try:
            claimed[i] = claims(entry.source, entry.stays, entry.new, entry.old)
        except Unclaimable:
            own.add(i)
    stuck = _read_elsewhere(touched, _reading(dense, final, keeps), place)
    while True:
        puts, refused = _merged({i: c for i, c in claimed.items() if i not in own}, mine, stuck)
        more = {i for i in refused if mine[i].changed} - own
        if not more:
            break
        own |= more
    found: list[e.Edit] = [e.Put(tensor, value) for tensor, value in puts.items()]
    for i in sorted(own):
        if mine[i].changed:
            for node, position in mine[i].sites:
                found += place.constant(node, position, "weight", mine[i].new.astype(mine[i].source.dtype))
    return found


def _entries(dense: Graph, final: Graph, keeps: Keeps) -> Iterator[Entry]:
    """Every initializer that is left, those of a folded norm as what the file has in their place."""
    nodes = {node.name: node.origin for node in dense.nodes}
    sites: dict[str, list[tuple[int | None, int]]] = {}
    for node in final.nodes:
        if node.name in nodes:
            for position, name in enumerate(node.inputs):
                sites.setdefault(name, []).append((nodes[node.name], position))
    norms: dict[int, dict[str, Entry]] = {}
    for name, old in dense.initializers.items():
        source = dense.sources.get(name)
        if name not in sites or name not in final.initializers or source is None:
            continue
        entry = Entry(source, old, final.initializers[name], _stays(old, keeps.get(name, {})), tuple(sites[name]))
        if not isinstance(source, Folded):
            yield entry
            continue
        parts = norms.setdefault(id(source.norm), {})
        parts[source.part] = entry
        if len(parts) == 2:
            yield from unfolded(source.norm, parts["weight"], parts["bias"])


def _stays(value: Array, keeps: Mapping[int, Array]) -> tuple[Array, ...]:
    return tuple(keeps.get(axis, np.ones(size, bool)) for axis, size in enumerate(value.shape))


def _reading(dense: Graph, final: Graph, keeps: Keeps) -> dict[Tensor, set[int]]:
    """Tensor to the nodes of the flat file that read it on behalf of some initializer, also those that are no more."""
    del final, keeps
    sites: dict[str, set[int]] = {}
    for node in dense.nodes:
        for name in node.inputs:
            if node.origin is not None:
                sites.setdefault(name, set()).add(node.origin)
    found: dict[Tensor, set[int]] = {}
    for name, source in dense.sources.items():
        if name not in sites:
            continue
        nodes = sites[name] | {i for i in nodes_of(source) if i is not None}
        if isinstance(source, Folded):
            nodes |= {i for i in (source.norm.operator, source.norm.node) if i is not None}
        for leaf in leaves(source):
            found.setdefault(leaf.tensor, set()).update(nodes)
    return found


def _read_elsewhere(touched: set[Tensor], reading: Mapping[Tensor, set[int]], place: Place) -> set[Tensor]:
    """Tensors that the file shows, lets callers override, or reads for something that the derived graph does not know."""
    return {tensor for tensor in touched if place.read_by_others(tensor, reading.get(tensor, set()))}


def _merged(
    claimed: Mapping[int, Sequence[Claim]], entries: Sequence[Entry], stuck: set[Tensor]
) -> tuple[dict[Tensor, Array], set[int]]:
    """One new value a tensor where all who read it agree, and who has to go alone."""
    values = {leaf.tensor: leaf.value for i in claimed for leaf in leaves(entries[i].source)}
    by_tensor: dict[Tensor, list[int]] = {}
    for i, of_entry in claimed.items():
        for claim in of_entry:
            by_tensor.setdefault(claim.tensor, []).append(i)
    puts: dict[Tensor, Array] = {}
    refused: set[int] = set()
    for tensor, of_tensor in by_tensor.items():
        new = _agreed(values[tensor], [c for i in dict.fromkeys(of_tensor) for c in claimed[i] if c.tensor == tensor])
        if new is None or (tensor in stuck and not _same(new, values[tensor])):
            refused.update(of_tensor)
        elif not _same(new, values[tensor]):
            puts[tensor] = new
    refused |= {i for i in claimed if i not in refused and not _arrives(entries[i], puts)}
    spoilt = {claim.tensor for i in refused for claim in claimed[i]}
    return {tensor: value for tensor, value in puts.items() if tensor not in spoilt}, refused


def _agreed(old: Array, claimed: Sequence[Claim]) -> Array | None:
    """What a tensor must hold, or None where one reader drops what another reads, or what stays is no block."""
    gone, read = np.zeros(old.size, bool), np.zeros(old.size, bool)
    content = old.reshape(-1).copy()
    for claim in claimed:
        again = read & claim.read
        if (content[again] != claim.content[again]).any():
            return None
        content[claim.read] = claim.content[claim.read]
        gone |= claim.gone
        read |= claim.read
    if (gone & read).any():
        return None
    if not old.ndim:
        return content.reshape(())
    stays = ~gone.reshape(old.shape)
    axes = [stays.any(tuple(i for i in range(old.ndim) if i != axis)) for axis in range(old.ndim)]
    index = np.ix_(*axes)
    return np.ascontiguousarray(content.reshape(old.shape)[index]) if stays[index].all() else None


def _same(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def _arrives(entry: Entry, puts: Mapping[Tensor, Array]) -> bool:
    """Whether movements between the file and an initializer, as the file has them, give its new shape from the new tensors."""
    if not isinstance(entry.source, Moved):
        return True
    try:
        return bool(_recomputed(entry.source, puts).shape == entry.new.shape)
    except (Unclaimable, SecateurError, ValueError):
        return False  # sizes that a node names are those of the dense tensor


def _recomputed(source: Source, puts: Mapping[Tensor, Array]) -> Array:
    if isinstance(source, Stored):
        return puts.get(source.tensor, source.value)
    if not isinstance(source, Moved):
        raise Unclaimable("arithmetic lies in between")
    operands = [
        _recomputed(operand, puts) if operand is not None else value
        for operand, value in zip(source.operands, source.values, strict=True)
    ]
    return np.asarray(source.run(operands)[source.output])
