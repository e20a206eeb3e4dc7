"""Lists of tensors."""

from __future__ import annotations

from search.graph.ops import lower_sequence
from search.graph.ops.op import Op

_POSITIONS = {"SequenceAt": 1, "SequenceInsert": 2, "SequenceErase": 1, "SplitToSequence": 1}

OPS: dict[str, Op] = {
    name: Op(function, static=(_POSITIONS[name],) if name in _POSITIONS else (), of_lists="Sequence" in name)
    for name, function in lower_sequence.FUNCTIONS.items()
}
