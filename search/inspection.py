"""A dry run: what could be pruned, what stays and why, and what each target would make of it. Needs no data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hwprofiles.device import DeviceProfile, Structure
from hwprofiles.latency import latency_interval_s
from hwprofiles.rules import executed_structures, sparsity_rule
from search.allocate.lowered import Kernels
from search.allocate.price import Pricer
from search.graph.ir import Graph
from search.graph.onnx import head
from search.graph.onnx.find_samples import Found
from search.graph.onnx.read import load
from search.graph.ops import of
from search.graph.upload import Upload
from search.input.data import synthetic
from search.input.sample_axes import find_samples, sizes_taken
from search.measure import profiles
from search.space.groups import removable_parameters
from search.space.options import states_for
from search.space.plan import Knobs
from search.space.structures.cluster import runs_zeros
from search.wire.progress import Progress
from search.wire.report import Inspection, Latency, PrunableGroup, Range, TargetInspection
from search.wire.request import JobSpec

HEAD_SAMPLES = 2
"""That a head is run on to see the shapes of what it makes."""


def inspect(spec: JobSpec, model: Upload, cache_dir: Path, progress: Progress) -> Inspection:
    """Read a model and price it on every target, dense and as narrow as it gets.

    Raises:
        SecateurError: the model or a profile is not usable.
    """
    found = find_samples(model, spec)
    graph = load(model, found)
    shapes = _shapes(graph, found)
    words = sizes_taken(found)
    knobs = Knobs(graph, shapes, exclude=spec.constraints.exclude)
    groups = knobs.groups
    targets, lowered = {}, Kernels(knobs)
    for name in spec.profiles:
        profile = profiles.resolve(name, cache_dir, progress, spec.threads, spec.batch, anchored=False)
        pricer = Pricer(knobs, profile, lowered)
        dense = pricer.latency_s({})
        states = states_for(knobs, profile, spec.constraints.structures, spec.constraints.min_widths)
        least = min(pricer.latency_s(pricer.fastest(options)) for options in states)
        notes = [f"{s} removal gives nothing: {sparsity_rule(s, profile).reason}" for s in _not_executed(profile)]
        zeros = runs_zeros(profile, graph, groups.shapes)
        if isinstance(zeros, str) and sparsity_rule("unstructured", profile).executed:
            notes.append(f"no zeros of this network are skipped: {zeros}")
        if least >= dense:
            notes.insert(0, "pruning cannot help here: no narrower width and no missing block is cheaper")
        if profile.held_out_error is None:
            notes.append("the latency model of this profile is not validated")
        if guesses := pricer.guesses():
            notes.append(guesses)
        latency = Latency.of_seconds(dense, latency_interval_s(dense, profile, pricer.guessed_s({})), "modelled")
        targets[name] = TargetInspection(latency, Range(least * 1e3, dense * 1e3), (*notes, *profile.notes))
    kernels = pricer.workloads({})
    return Inspection(
        groups=tuple(
            PrunableGroup(g.id, "channel", len(g), removable_parameters(g, graph.initializers), g.nodes)
            for g in groups.prunable
        ),
        frozen=groups.frozen,
        macs=sum(kernel.macs for kernel in kernels),
        parameters=graph.parameter_count,
        profiles=targets,
        warnings=(*(() if words is None else (words,)), *_why_nothing(graph, knobs)),
        nodes=graph.kinds,
    )


def _shapes(graph: Graph, found: Found) -> dict[str, tuple[int, ...]]:
    """Of the inputs of what is looked into: the file's, or what its head makes of any samples."""
    if graph.frame is None:
        return graph.sampling.shapes(found.samples)
    made = head.enter(graph, synthetic(graph, HEAD_SAMPLES, np.random.default_rng(0), found.samples).feeds)
    return graph.sampling.shapes({name: value.shape[1:] for name, value in made.items()})


def _why_nothing(graph: Graph, knobs: Knobs) -> list[str]:
    """In words, why a file has no groups, where its kind says so."""
    if knobs.groups.prunable:
        return []
    if not graph.outputs:
        return ["no node of the file is understood: ONNX Runtime runs it as it is"]
    integers = sorted({node.op for node in graph.nodes if (entry := of(node)) is not None and entry.quantised})
    if not integers:
        return []
    named = ", ".join(integers)
    advice = "prune the network in floats, then quantise what comes out"
    return [f"nothing can be pruned: layers compute in 8-bit integers ({named}), whose channels are not cut; {advice}"]


def _not_executed(profile: DeviceProfile) -> list[Structure]:
    executed = executed_structures(profile)
    sparse: tuple[Structure, ...] = ("unstructured", "nm", "block")
    return [structure for structure in sparse if structure not in executed]
