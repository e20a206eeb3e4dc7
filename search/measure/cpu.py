"""What this machine's CPU is: its name, its caches, how many channels its vectors hold."""

from __future__ import annotations

import platform
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
_L2_SIZE = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")


def vector_channels() -> int:
    """float32 values that a vector holds: 16 where the CPU has AVX-512, else 8."""
    return 16 if "avx512f" in _cpu_info().get("flags", "").split() else 8


def cpu_name() -> str:
    """The CPU's name as the system gives it."""
    return _cpu_info().get("model name") or platform.processor() or platform.machine()


def instruction_set() -> str:
    """The widest vector instructions of the CPU that runtimes choose kernels by, else its architecture."""
    flags = set(_cpu_info().get("flags", "").split())
    known = [name for name in ("amx_tile", "avx512_vnni", "avx512f", "avx2", "avx") if name in flags]
    return "+".join(known[:2]) or platform.machine()


def l2_cache_bytes() -> int:
    """Size of one core's second-level cache; 1 MiB, a common size, where the system does not say."""
    return int(_L2_SIZE.read_text().strip().removesuffix("K")) * 1024 if _L2_SIZE.exists() else 1 << 20


def _cpu_info() -> dict[str, str]:
    """The first processor's entries; empty where the system has no such file."""
    if not _CPU_INFO.exists():
        return {}
    first = _CPU_INFO.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
