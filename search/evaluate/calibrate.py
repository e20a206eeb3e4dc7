"""Measures the machine we run on: random micro-networks timed in ONNX Runtime, and a latency model fitted to them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from hwprofiles.device import DeviceProfile, LatencyModel
from hwprofiles.fit import MeasuredNetwork, fit
from hwprofiles.kernels import Tiles
from hwprofiles.registry import load_profile
from hwprofiles.workload import Workload
from search.evaluate.benchmark import default_clock, open_session, plain_call, take_turns
from search.evaluate.builder import MicroNetwork
from search.evaluate.micronets import micro_network
from search.graph.fuse import workloads
from search.graph.onnx_import import load

Progress = Callable[[float], None]
NETWORKS = 300
"""Half as many give twice the error, twice as many no smaller one."""
MAX_ROUNDS = 25
"""Every round visits all networks, so that a busy spell of the machine touches each a little and none alone."""
PATIENCE = 4.0
"""Wall seconds a second of work may take."""
UNDISTURBED = 0.2
"""Quantile over rounds: what a call takes when no neighbour is in the caches; the median moves with the load."""
L3_SHARES = (4, 6, 8, 12, 16, 24)
"""Second-level caches' worth of weights that the shared cache may keep beside its other users': the fit decides."""
_FIT_SHARE = 0.15
"""Part of the budget left for the fit."""
_UNKNOWN: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
"""Stands for a constant whose value does not matter."""
_CPU_INFO = Path("/proc/cpuinfo")
UNCALIBRATED_ID = "host-cpu-onnxruntime"


def calibrate_host(
    profile_id: str,
    *,
    threads: int = 1,
    seed: int = 0,
    budget_s: float = 45.0,
    progress: Progress = lambda _fraction: None,
) -> DeviceProfile:
    """Measure this machine under ONNX Runtime.

    Args:
        profile_id: id of the profile.
        threads: of one operator; with more than one, wall time is measured instead of the thread's CPU time.
        seed: of the random networks.
        budget_s: seconds of work, as `measure` counts them; each network is timed fewer times on a slow machine.
        progress: called with the fraction done.

    Returns:
        The profile, fitted, with its error on networks that the fit did not see. The caller saves it.

    Raises:
        UnfitRows: the budget was too short for enough networks.
    """
    rows = measure(random_networks(seed), threads=threads, budget_s=(1 - _FIT_SHARE) * budget_s, progress=progress)
    profile = host_profile(profile_id, rows, threads=threads)
    progress(1.0)
    return profile


def host_profile(profile_id: str, rows: Sequence[MeasuredNetwork], *, threads: int = 1) -> DeviceProfile:
    """The profile of this machine, fitted to measured networks."""
    block = channel_block()
    skeleton = load_profile(UNCALIBRATED_ID)
    model = LatencyModel(
        kind="roofline",
        kernels="nchwc",
        tiles=Tiles(c_out=block, c_in=block, panel=4 * block, block=block),
        roofline=skeleton.latency.roofline,
        l2_bytes=float(l2_cache_bytes()),
    )
    models = [dataclasses.replace(model, l3_bytes=share * model.l2_bytes) for share in L3_SHARES]
    fitted = min((fit(rows, model, skeleton.bytes_per_element) for model in models), key=lambda fit: fit.error.mape)
    return dataclasses.replace(
        skeleton,
        id=profile_id,
        name=f"{cpu_name()}, ONNX Runtime, {threads} thread{'s' if threads > 1 else ''}",
        runtime_version=ort.__version__,
        threads=threads,
        core_type=f"{platform.machine()}, blocks of {block} channels",
        channel_grid=block,
        latency=fitted.model,
        provenance="measured here",
        source=f"{len(rows)} random networks timed end to end in ONNX Runtime {ort.__version__}",
        licence="CC0-1.0",
        date=dt.datetime.now(tz=dt.UTC).date().isoformat(),
        held_out_error=fitted.error,
        calibrated=True,
        notes=(),
    )


def random_networks(seed: int) -> Iterator[MicroNetwork]:
    """The `NETWORKS` networks of a seed, one at a time: together their files would fill a gigabyte."""
    rng = np.random.default_rng(seed)
    return (micro_network(rng) for _ in range(NETWORKS))


def measure(
    networks: Iterable[MicroNetwork],
    *,
    threads: int = 1,
    budget_s: float = 40.0,
    progress: Progress = lambda _fraction: None,
) -> list[MeasuredNetwork]:
    """Time ``networks`` in turn, at least once each and at most `MAX_ROUNDS` times, within ``budget_s`` seconds of work.

    The budget is CPU time, the same as wall time on a machine of one's own, so that a busy one gives no worse a calibration;
    it is done after `PATIENCE` times as many seconds on the wall.

    Every network is a family of its own, as each is random.
    """
    clock = default_clock(threads)
    work, wall = time.process_time(), time.monotonic()
    calls, kernels, names = [], [], []
    for number, network in enumerate(networks):
        calls.append(_call(network, threads))
        kernels.append(tuple(lower(network.model)))
        names.append(f"{network.kind}-{number}")
    rounds: list[NDArray[np.float64]] = []
    used = 0.0
    while not rounds or (len(rounds) < MAX_ROUNDS and used < 1):
        rounds.append(take_turns(calls, rounds=1, clock=clock)[0])
        used = max(time.process_time() - work, (time.monotonic() - wall) / PATIENCE) / budget_s
        progress((1 - _FIT_SHARE) * min(1.0, max(len(rounds) / MAX_ROUNDS, used)))
    latency_s = np.quantile(rounds, UNDISTURBED, axis=0)
    return [MeasuredNetwork(*row) for row in zip(names, names, kernels, map(float, latency_s), strict=True)]


def _call(network: MicroNetwork, threads: int) -> Callable[[], object]:
    x: NDArray[np.float32] = np.random.default_rng(0).standard_normal(network.input_shape, dtype=np.float32)
    return plain_call(open_session(network.model, threads=threads), {"x": x})


def lower(model: bytes) -> list[Workload]:
    """The kernels of an ONNX file whose input shapes are fixed; ONNX's own shape inference is quick."""
    graph = load(model)
    inferred = onnx.shape_inference.infer_shapes(onnx.load_from_string(model)).graph
    shapes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    static = dict(graph.initializers)
    for node in graph.nodes:  # weights that a node makes from constants are weights too
        if all(name in static for name in node.inputs if name):
            static |= dict.fromkeys(node.outputs, _UNKNOWN)
    shapes |= {name: tuple(array.shape) for name, array in graph.initializers.items()}
    return workloads(graph, shapes, static)


def channel_block() -> int:
    """Channels of one block in ONNX Runtime's layout: 16 where the CPU has AVX-512, else 8."""
    return 16 if "avx512f" in _cpu_info().get("flags", "").split() else 8


def cpu_name() -> str:
    """The CPU's name as the system gives it."""
    return _cpu_info().get("model name") or platform.processor() or platform.machine()


def l2_cache_bytes() -> int:
    """Size of one core's second-level cache; 1 MiB, a common size, where the system does not say."""
    size = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
    return int(size.read_text().strip().removesuffix("K")) * 1024 if size.exists() else 1 << 20


def _cpu_info() -> dict[str, str]:
    """The first processor's entries; empty where the system has no such file."""
    if not _CPU_INFO.exists():
        return {}
    first = _CPU_INFO.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
