"""What a client gets back: frozen dataclasses, JSON in and out. Times are seconds inside, milliseconds on the wire."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Literal

import cattrs

SCHEMA_VERSION = 1
LatencyKind = Literal["measured", "modelled"]
DataRegime = Literal["labelled", "unlabelled", "data-free"]
Verdict = Literal["kept", "likeliest"]
Judge = Literal["top1", "agreement", "r2", "search", "nothing"]


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """A quality on data that the search did not see, with a 95 % interval; ``delta`` is against the dense model."""

    value: float
    low: float
    high: float
    delta: float
    delta_low: float
    delta_high: float
    n: int
    metric: str
    """``top1``, also of yes and no; ``agreement`` with the dense model where there are no labels; ``r2`` for values, without
    labels those of the dense model: the mean over all columns of the outputs that count, each at least -1."""
    keeps_limit: float | None = None
    """How surely (0 to 1) no more is lost than the request allows; told by the samples that ``best`` was chosen on, not by those
    of ``value``. None where nothing limits the loss."""


@dataclasses.dataclass(frozen=True)
class Latency:
    """Milliseconds for one inference at the profile's batch size, with its interval and where it comes from."""

    value: float
    low: float
    high: float
    kind: LatencyKind

    @classmethod
    def of_seconds(cls, value: float, interval: tuple[float, float], kind: LatencyKind) -> Latency:
        """From seconds."""
        return cls(value * 1e3, interval[0] * 1e3, interval[1] * 1e3, kind)


@dataclasses.dataclass(frozen=True)
class Conditions:
    """How the latencies of a front were had."""

    machine: str
    runtime: str
    """With its version."""
    threads: int
    """Of one operator."""
    batch: int
    """Samples of one inference."""
    clock: str = ""
    """``thread CPU time`` or ``wall time``; empty where nothing was timed."""
    rounds: int = 0
    """Turns that each file took; a latency is their median, its interval from the 5 % to the 95 % quantile."""
    dates: tuple[str, ...] = ()
    """Days of the timings, or of the profile where nothing was timed; timings of a file are remembered."""


@dataclasses.dataclass(frozen=True)
class LayerChange:
    """What happened to one weighted node. ``kept`` of ``units`` output channels, ``kept_inputs`` of ``inputs``."""

    node: str
    op: str
    units: int
    kept: int
    inputs: int
    kept_inputs: int
    zeros: float = 0.0
    """Share of the weights left that are zero."""


@dataclasses.dataclass(frozen=True)
class BlockChange:
    """What stands in for a residual block: ``dropped``, or one fitted operator such as ``conv3x3`` or ``linear``."""

    block: str
    """Name of the node that ends the block."""
    became: str


@dataclasses.dataclass(frozen=True)
class Point:
    """One model of a front."""

    id: str
    profile: str
    accuracy: Accuracy
    latency_ms: Latency
    predicted_latency_ms: Latency
    """What the latency model said before anything was timed; equal to ``latency_ms`` where nothing can be timed."""
    speedup: float
    """How many times as fast as dense, both latencies of the kind that ``latency_ms`` names: the median over rounds, or the ratio
    of prices, less what it owes to the choice of plans that the latency model likes best, where that model's error is known."""
    predicted_speedup: float
    parameters: int
    macs: int
    bytes: int
    compression_ratio: float
    """Dense bytes over these bytes."""
    theoretical_speedup: float
    """Dense MACs over these MACs."""
    layers: tuple[LayerChange, ...]
    blocks: tuple[BlockChange, ...]
    artifact: str
    """Path below the output directory, e.g. ``points/host-cpu-onnxruntime/p3.onnx``."""
    sha256: str
    parity: float
    """Largest |pruned file - masked model| over largest |masked model|, in ONNX Runtime on held-out inputs."""
    speedup_low: float = 0.0
    speedup_high: float = 0.0
    """95 % interval of a measured ``speedup``, 90 % of a modelled one; 0 in reports without it."""
    peak_memory_bytes: int = 0
    """Weights and the activations alive at once, one sample: see `search.judge.memory`; 0 in reports without it."""


@dataclasses.dataclass(frozen=True)
class Front:
    """The accuracy/latency front of one target, sorted by latency.

    The samples of the search decide what is on it: no point is both slower and further from the dense model than another. Those
    of the selection decide which is ``best``, and accuracies are told by others still, so that they need not rise with latency.
    """

    dense: Point
    points: tuple[Point, ...]
    best: str | None
    best_reason: str
    rewrites: Point | None = None
    """The second control: the upload with the exact rewrites alone that every point has; None where there are none."""
    conditions: Conditions | None = None
    """None in reports without it."""
    best_is: Verdict | None = None
    """``kept``: it loses no more than the request allows, at the confidence asked for; ``likeliest``: the samples do not tell at
    that confidence, and no other point is likelier to. None where nothing limits the loss, or no point is best."""

    @property
    def rows(self) -> tuple[Point, ...]:
        """Both controls, then the points; a second control that is on the front stands there."""
        second = () if self.rewrites is None or self.rewrites in self.points else (self.rewrites,)
        return (self.dense, *second, *self.points)


@dataclasses.dataclass(frozen=True)
class FrozenGroup:
    """A node whose channels stay, and why, in words."""

    node: str
    reason: str


@dataclasses.dataclass(frozen=True)
class PrunableGroup:
    """Units that live and die together."""

    id: str
    kind: Literal["channel", "head", "width", "block"]
    units: int
    removable_parameters: int
    nodes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Range:
    """Reachable latency in milliseconds."""

    min: float
    max: float


@dataclasses.dataclass(frozen=True)
class TargetInspection:
    """What a target makes of the model before any search."""

    latency_ms: Latency
    reachable_ms: Range
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class CarriedNode:
    """A node that ONNX Runtime runs as it is, forward only, and why."""

    node: str
    operator: str
    reason: str


@dataclasses.dataclass(frozen=True)
class NodeKinds:
    """How many nodes of the file are of which kind."""

    understood: int
    """Run and differentiated by us, their channels coupled and cut."""
    shapes: int
    """Depend on sizes and constants only."""
    carried: tuple[CarriedNode, ...] = ()


@dataclasses.dataclass(frozen=True)
class Inspection:
    """Answer of a dry run."""

    groups: tuple[PrunableGroup, ...]
    frozen: tuple[FrozenGroup, ...]
    macs: int
    parameters: int
    profiles: dict[str, TargetInspection]
    warnings: tuple[str, ...] = ()
    nodes: NodeKinds | None = None

    def to_json(self) -> str:
        """The inspection as JSON."""
        return json.dumps(cattrs.unstructure(self), indent=2)


@dataclasses.dataclass(frozen=True)
class OutputUse:
    """One output of the model, and what tells how good it is."""

    name: str
    judged_by: Judge
    """``top1``, ``agreement`` and ``r2`` as in `Accuracy`, where several outputs with ``r2`` count alike. ``search``: it ranks
    candidates by how far it moves from the dense model's, and is no part of the accuracy. ``nothing``: it says nothing of the
    weights, as constants, sizes and echoes of inputs do."""


@dataclasses.dataclass(frozen=True)
class DataUse:
    """How the data set was divided: no sample serves two purposes."""

    regime: DataRegime
    calibration: int
    search: int
    evaluation: int
    training: int = 0
    """Samples that weights were trained on, those of calibration among them."""
    outputs: tuple[OutputUse, ...] = ()
    """What each output is judged by, in the model's order; empty in reports without it."""
    selection: int = 0
    """Samples that ``best`` was chosen on; as many as for evaluation where ``crossed``; 0 in reports without it."""
    crossed: bool = False
    """True where samples were too few to keep some for the choice: every tenth of them then judges what the others chose."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Everything a job found."""

    headline: str
    fronts: dict[str, Front]
    data: DataUse
    groups: tuple[PrunableGroup, ...]
    frozen: tuple[FrozenGroup, ...]
    warnings: tuple[str, ...]
    seed: int
    stage_s: dict[str, float]
    """Wall seconds each stage took; the only part of a report that differs between two equal runs."""
    complete: bool = True
    """False when the deadline or a cancellation ended the search early; the front is then partial."""
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """The report as JSON."""
        return json.dumps(cattrs.unstructure(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read what `to_json` wrote.

        Raises:
            ValueError: another schema version.
        """
        fields: dict[str, Any] = json.loads(text)
        if fields.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(
                f"report has schema_version {fields.get('schema_version')}; this release reads {SCHEMA_VERSION}"
            )
        return cattrs.structure(fields, cls)
