"""Measures the machine we run on: random micro-networks timed in a runtime, and a latency model fitted to them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hwprofiles.device import DeviceProfile, HeldOutError
from hwprofiles.fit import Fit, MeasuredNetwork, fit, held_out_error
from hwprofiles.registry import load_profile
from search.graph.onnx.traced import trace
from search.measure.benchmark import default_clock, take_turns
from search.measure.calibrate.builder import MicroNetwork
from search.measure.calibrate.micronets import micro_network
from search.measure.cpu import vector_channels
from search.measure.runtimes import identity, random_call, runtime

Progress = Callable[[float], None]
NETWORKS = 300
"""Half as many give twice the error, twice as many no smaller one."""
ANCHORS = 5
"""Networks that are timed again with every job; the median of their ratios is known to some per cent."""
MAX_ROUNDS = 25
"""Every round visits all networks, so that a busy spell of the machine touches each a little and none alone."""
PATIENCE = 4.0
"""Wall seconds a second of work may take."""
UNDISTURBED = 0.2
"""Quantile over rounds: what a call takes when no neighbour is in the caches; the median moves with the load."""
_FIT_SHARE = 0.15
"""Part of the budget left for the fit."""


def calibrate_host(
    profile_id: str,
    *,
    runtime_name: str = "onnxruntime",
    threads: int = 1,
    seed: int = 0,
    budget_s: float = 45.0,
    progress: Progress = lambda _fraction: None,
) -> DeviceProfile:
    """Measure this machine under a runtime.

    Args:
        profile_id: id of the profile.
        runtime_name: in `search.measure.runtimes.RUNTIMES`.
        threads: of one operator; with more than one, wall time is measured instead of the thread's CPU time.
        seed: of the random networks.
        budget_s: seconds of work, as `measure` counts them; each network is timed fewer times on a slow machine.
        progress: called with the fraction done.

    Returns:
        The profile, fitted, with its error on networks that the fit did not see. The caller saves it.

    Raises:
        InvalidProfile: the runtime is not installed.
        UnfitRows: the budget was too short for enough networks.
    """
    measuring_s = (1 - _FIT_SHARE) * budget_s
    networks = random_networks(seed, sequences=runtime(runtime_name).sequences)
    rows = measure(networks, runtime_name=runtime_name, threads=threads, budget_s=measuring_s, progress=progress)
    profile = host_profile(profile_id, rows, runtime_name=runtime_name, threads=threads)
    progress(1.0)
    return profile


def host_profile(
    profile_id: str, rows: Sequence[MeasuredNetwork], *, runtime_name: str = "onnxruntime", threads: int = 1
) -> DeviceProfile:
    """The profile of this machine, fitted to measured networks."""
    timed = runtime(runtime_name)
    skeleton = load_profile(timed.profile_id)
    fits = [fit(rows, model, skeleton.bytes_per_element) for model in timed.models()]
    fitted = min(fits, key=lambda fit: fit.error.mape)
    error = dataclasses.replace(fitted.error, log_error_q90=_of_whole_networks(fitted, rows).log_error_q90)
    grid, mine = vector_channels(), identity(runtime_name, threads)
    return dataclasses.replace(
        skeleton,
        id=profile_id,
        name=mine["name"],
        runtime_version=mine["runtime_version"],
        core_type=mine["core_type"],
        threads=threads,
        channel_grid=grid,
        latency=fitted.model,
        provenance="measured here",
        source=f"{len(rows)} random networks timed end to end in {timed.title} {timed.version()}",
        licence="CC0-1.0",
        date=dt.datetime.now(tz=dt.UTC).date().isoformat(),
        held_out_error=error,
        calibrated=True,
        anchors_s=tuple(row.latency_s for row in rows[:ANCHORS]),
        notes=(),
    )


def anchors_s(runtime_name: str, threads: int, *, rounds: int = MAX_ROUNDS) -> tuple[float, ...]:
    """Seconds of the first networks of a calibration, which tell whether the machine is as it was then."""
    timed = runtime(runtime_name)
    networks = itertools.islice(random_networks(0, sequences=timed.sequences), ANCHORS)
    calls = [random_call(timed, trace(network.model), threads) for network in networks]
    seconds = take_turns(calls, rounds=rounds, clock=default_clock(threads))
    return tuple(float(each) for each in np.quantile(seconds, UNDISTURBED, axis=0))


def _of_whole_networks(fitted: Fit, rows: Sequence[MeasuredNetwork]) -> HeldOutError:
    """The error on the third of the networks that has most kernels, as whole ones do: errors of kernels average out."""
    kernels = np.array([len(row.workloads) for row in rows])
    large = kernels >= np.quantile(kernels, 2 / 3)
    return held_out_error(fitted.held_out_s[large], np.array([row.latency_s for row in rows])[large])


def random_networks(seed: int, *, sequences: bool = False) -> Iterator[MicroNetwork]:
    """The `NETWORKS` networks of a seed, one at a time: together their files would fill a gigabyte."""
    rng = np.random.default_rng(seed)
    return (micro_network(rng, sequences=sequences) for _ in range(NETWORKS))


def measure(
    networks: Iterable[MicroNetwork],
    *,
    runtime_name: str = "onnxruntime",
    threads: int = 1,
    budget_s: float = 40.0,
    progress: Progress = lambda _fraction: None,
) -> list[MeasuredNetwork]:
    """Time ``networks`` in turn, at least once each and at most `MAX_ROUNDS` times, within ``budget_s`` seconds of work.

    The budget is CPU time, the same as wall time on a machine of one's own, so that a busy one gives no worse a calibration;
    it is done after `PATIENCE` times as many seconds on the wall.

    Every network is a family of its own, as each is random.
    """
    clock, timed = default_clock(threads), runtime(runtime_name)
    work, wall = time.process_time(), time.monotonic()
    calls, kernels, names = [], [], []
    for number, network in enumerate(networks):
        traced = trace(network.model)
        calls.append(random_call(timed, traced, threads))
        kernels.append(tuple(traced.workloads()))
        names.append(f"{network.kind}-{number}")
    rounds: list[NDArray[np.float64]] = []
    used = 0.0
    while not rounds or (len(rounds) < MAX_ROUNDS and used < 1):
        rounds.append(take_turns(calls, rounds=1, clock=clock)[0])
        used = max(time.process_time() - work, (time.monotonic() - wall) / PATIENCE) / budget_s
        progress((1 - _FIT_SHARE) * min(1.0, max(len(rounds) / MAX_ROUNDS, used)))
    latency_s = np.quantile(rounds, UNDISTURBED, axis=0)
    return [MeasuredNetwork(*row) for row in zip(names, names, kernels, map(float, latency_s), strict=True)]
