"""New numbers of a derived graph's initializers, carried back to the tensors of the upload."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from search.graph.edit import edits as e
from search.graph.edit.claims import claims, parts, unfolded
from search.graph.edit.place import Place
from search.graph.ir import Array, Graph, Node, Source
from search.graph.sources import (
    Claim,
    Entry,
    Folded,
    Moved,
    Stored,
    Tensor,
    Unclaimable,
    leaves,
    nodes_of,
    same,
)
from search.wire.errors import SecateurError

Keeps = Mapping[str, Mapping[int, Array]]
"""Initializer to axis to a boolean vector: True stays. What is not named stays whole."""
ROUNDINGS = 4
"""Of the file's type, by which an initializer may differ from what is written for it: once there, once back."""
SMALLEST = 1e-7
"""Below it half a type's digits are gone: float16 counts in steps of 6e-8 there."""


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
    mine = [entry for entry in entries if entry.changed or any(leaf.tensor in touched for leaf in leaves(entry.source))]
    stuck = _read_elsewhere(touched, _reading(dense), place)
    uses = Counter(leaf.tensor for entry in mine for leaf in leaves(entry.source))
    puts: dict[Tensor, Array] = {}
    claimed: dict[int, list[Claim]] = {}
    own: set[int] = set()
    for i, entry in enumerate(mine):
        source = entry.source
        if isinstance(source, Stored) and uses[source.tensor] == 1 and source.tensor not in stuck:
            puts[source.tensor] = entry.stored(source.value)
            continue
        try:
            claimed[i] = claims(source, entry.stays, entry.new, entry.old)
        except Unclaimable:
            if entry.changed:
                own.add(i)
            else:
                stuck |= {leaf.tensor for leaf in leaves(source)}
    agreed, alone = _settled(claimed, mine, stuck)
    puts.update(agreed)
    held = {leaf.tensor: leaf.value for entry in mine for leaf in leaves(entry.source)}
    found: list[e.Edit] = [
        e.Put(tensor, value) for tensor, value in puts.items() if not _identical(value, held[tensor])
    ]
    for i in sorted(own | alone):
        found += place.constant(mine[i].sites, "weight", mine[i].new, mine[i].source.dtype)
    return found


def _entries(dense: Graph, final: Graph, keeps: Keeps) -> Iterator[Entry]:
    """Every initializer that is left, those of a folded norm as what the file has in their place."""
    nodes = {node.name: node.origin for node in dense.nodes}
    sites: dict[str, list[tuple[int | None, int]]] = {}
    for node in final.nodes:
        if node.name in nodes and not node.is_carried:
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
        of_norm = norms.setdefault(id(source.norm), {})
        of_norm[source.part] = entry
        if len(of_norm) == 2:
            yield from unfolded(source.norm, of_norm["weight"], of_norm["bias"])


def _stays(value: Array, keeps: Mapping[int, Array]) -> tuple[Array, ...]:
    return tuple(keeps.get(axis, np.ones(size, bool)) for axis, size in enumerate(value.shape))


def _reading(dense: Graph) -> dict[Tensor, set[int]]:
    """Tensor to the nodes of the flat file that read it on behalf of some initializer, also those that are no more."""
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


def _settled(
    claimed: Mapping[int, Sequence[Claim]], entries: Sequence[Entry], stuck: set[Tensor]
) -> tuple[dict[Tensor, Array], set[int]]:
    """One new value for every tensor, and the entries that have to become tensors of their own."""
    alone: set[int] = set()
    while True:
        left = {i: of_entry for i, of_entry in claimed.items() if i not in alone}
        puts, refused = _merged(left, entries, stuck)
        if not refused:
            refused = _astray(left, entries, puts)
        if not refused:
            return puts, alone
        alone |= refused


def _merged(
    claimed: Mapping[int, Sequence[Claim]], entries: Sequence[Entry], stuck: set[Tensor]
) -> tuple[dict[Tensor, Array], set[int]]:
    """One new value a tensor on which those who read it agree, and who has to go alone.

    Where not all agree, those that did not change come first, and then each that agrees with those before it.
    """
    values = {leaf.tensor: leaf.value for i in claimed for leaf in leaves(entries[i].source)}
    by_tensor: dict[Tensor, dict[int, list[Claim]]] = {}
    for i in sorted(claimed, key=lambda i: entries[i].changed):
        for claim in claimed[i]:
            by_tensor.setdefault(claim.tensor, {}).setdefault(i, []).append(claim)
    puts: dict[Tensor, Array] = {}
    refused: set[int] = set()
    for tensor, readers in by_tensor.items():
        old = values[tensor]
        new = _agreed(old, [claim for of_entry in readers.values() for claim in of_entry])
        if new is not None and (tensor not in stuck or _identical(new, old)):
            puts[tensor] = new
            continue
        together: list[Claim] = []
        for i, of_entry in readers.items():
            new = _agreed(old, [*together, *of_entry])
            if not entries[i].changed or (new is not None and tensor not in stuck):
                together += of_entry
            else:
                refused.add(i)
    return puts, refused


def _identical(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def _agreed(old: Array, claimed: Sequence[Claim]) -> Array | None:
    """What a tensor must hold; None where one reader drops what another reads, where what stays is no block, or nothing stays."""
    gone, read = np.zeros(old.size, bool), np.zeros(old.size, bool)
    content = old.reshape(-1).copy()
    for claim in claimed:
        again = read & claim.read
        if not same(content[again], claim.content[again]).all():
            return None
        content[claim.read] = claim.content[claim.read]
        gone |= claim.gone
        read |= claim.read
    if (gone & read).any() or (gone.all() and gone.size):
        return None
    if not old.ndim:
        return content.reshape(())
    stays = ~gone.reshape(old.shape)
    axes = [stays.any(tuple(i for i in range(old.ndim) if i != axis)) for axis in range(old.ndim)]
    index = np.ix_(*axes)
    return np.ascontiguousarray(content.reshape(old.shape)[index]) if stays[index].all() else None


def _astray(claimed: Mapping[int, object], entries: Sequence[Entry], puts: Mapping[Tensor, Array]) -> set[int]:
    """Changed entries for which the file's movements do not give what is wanted, or which spoil what others want."""
    missed = {i for i in claimed if not _arrives(entries[i], puts)}
    spoilt = {leaf.tensor for i in missed if not entries[i].changed for leaf in leaves(entries[i].source)}
    return {
        i
        for i in claimed
        if entries[i].changed and (i in missed or any(leaf.tensor in spoilt for leaf in leaves(entries[i].source)))
    }


def _arrives(entry: Entry, puts: Mapping[Tensor, Array]) -> bool:
    """Whether movements between the file and an initializer, as the file has them, give it from the new tensors."""
    kinds = [leaf.value.dtype for leaf in leaves(entry.source) if _rounds(leaf.value.dtype)]
    rounding = ROUNDINGS * max((_resolution(kind) for kind in kinds), default=0.0)
    try:
        return all(
            _close(_recomputed(part.source, puts), part.new, rounding)
            for part in parts(entry.source, entry.stays, entry.new, entry.old)
        )
    except (Unclaimable, SecateurError, ValueError):
        return False  # sizes that a node names are those of the dense tensor


def _close(got: Array, wanted: Array, rounding: float) -> bool:
    if got.shape != wanted.shape:
        return False
    if got.dtype == wanted.dtype and same(got, wanted).all():
        return True
    if not _rounds(got.dtype):
        return bool(same(got.astype(wanted.dtype), wanted).all())
    mine, theirs = got.astype(np.float64), wanted.astype(np.float64)
    return bool(np.allclose(mine, theirs, rtol=rounding, atol=SMALLEST, equal_nan=True))


def _resolution(dtype: np.dtype[Any]) -> float:
    return float(ml_dtypes.finfo(dtype).eps)  # type: ignore[no-untyped-call]


def _rounds(dtype: np.dtype[Any]) -> bool:
    return dtype.name.startswith(("float", "bfloat"))


def _recomputed(source: Source, puts: Mapping[Tensor, Array]) -> Array:
    if isinstance(source, Stored):
        return puts.get(source.tensor, source.value)
    if not isinstance(source, Moved):
        raise Unclaimable("arithmetic lies in between")
    operands = [
        _recomputed(operand, puts) if operand is not None else value
        for operand, value in zip(source.operands, source.values, strict=True)
    ]
    _refuse_overrun(source.node, operands)
    return np.asarray(source.run(operands)[source.output])


def _refuse_overrun(node: Node, operands: Sequence[Array | None]) -> None:
    """Parts or indices beyond the end, which we would clip and ONNX Runtime refuses.

    Raises:
        Unclaimable: there are some.
    """
    data, named = operands[0], operands[1] if len(operands) > 1 else None
    if data is None or node.op not in ("Split", "Gather"):
        return
    size = data.shape[int(node.get("axis", 0))]
    parts_named = named if named is not None else np.asarray(node.get("split", [size]))
    if node.op == "Split" and int(parts_named.sum()) != size:
        raise Unclaimable("its parts are not those of the tensor any more")
    if node.op == "Gather" and named is not None and named.size and not -size <= named.min() <= named.max() < size:
        raise Unclaimable("it picks what is not there any more")
