"""Limits around the child process that opens an upload: memory, CPU, files, no network, no foreign files, no secrets.

The child starts through ``python -m service.sandbox LIMITS COMMAND...``, which limits itself and then becomes the
command. So nothing runs between fork and exec in the worker's process, which is not safe beside threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from service import landlock
from service.errors import Unprotected

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")
_KEPT_PREFIXES = ("CUDA_", "NVIDIA_", "XLA_", "JAX_", "TPU_", "OMP_", "OPENBLAS_", "MKL_")
_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc", "/opt", "/sys", "/dev", "/nix")
_PROC = (
    "self",
    "cpuinfo",
    "meminfo",
    "stat",
    "version",
    "loadavg",
    "uptime",
    "filesystems",
    "devices",
    "sys",
    "driver",
)
"""Of /proc: of the machine, and of the child itself; the environment of another process may hold secrets."""
REMEMBERED = ("measurements", "matplotlib")
Policy = Literal["off", "prefer", "require"]
_PACKAGE_ROOT = Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What a child may use; sizes in bytes, 0 for no limit."""

    memory_bytes: int = 0
    file_bytes: int = 0
    cpu_s: int = 0
    open_files: int = 4096
    processes: int = 0
    """And threads, of all that run as this user."""
    niceness: int = 0
    """By how much it stands back where cores are short."""
    network: Policy = "prefer"
    """Whether the child goes without; ``require``: or not at all, where the kernel gives no network namespace."""
    files: Policy = "prefer"
    """Whether the child sees its own files only; ``require``: or does not start, where the kernel has no Landlock."""
    writable: tuple[str, ...] = ()
    """Folders that it may change then."""


def policies(network: Policy, files: Policy) -> None:
    """Refuse to work where this machine does not give what is required.

    Raises:
        Unprotected: says what is missing.
    """
    found = holds()
    for policy, name, what in (
        (network, "no_network", "the kernel gives no network namespace, and SECATEUR_SANDBOX_NETWORK is `require`"),
        (files, "fenced_files", "the kernel has no Landlock, and SECATEUR_SANDBOX_FILES is `require`"),
    ):
        if policy == "require" and not found[name]:
            raise Unprotected(f"{what}; allow it there, or set it to `prefer`")


def launched(command: Sequence[str], limits: Limits) -> list[str]:
    """The command line that runs `command` within `limits`, and ends it when the process that started it dies."""
    return [sys.executable, "-m", "service.sandbox", json.dumps(dataclasses.asdict(limits)), *command]


def start(command: Sequence[str], directory: Path, cache_dir: Path, limits: Limits) -> subprocess.Popen[bytes]:
    """Start `command` in `directory` within `limits`, as leader of its own session; it writes to ``child.log``.

    Of the cache it may change what jobs remember for each other, and nothing that says what a target is.
    """
    scratch = directory / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    remembered = [(cache_dir / name).resolve() for name in REMEMBERED]
    writable = tuple(str(folder) for folder in (directory.resolve(), *remembered))
    limits = dataclasses.replace(limits, writable=(*limits.writable, *writable))
    with (directory / "child.log").open("ab") as log:
        return subprocess.Popen(
            launched(command, limits),
            cwd=directory,
            env=_environment(os.environ, scratch, cache_dir),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stop(child: subprocess.Popen[bytes], grace_s: float) -> int:
    """SIGTERM to the child's process group, SIGKILL after `grace_s` seconds; its exit code."""
    signal_group(child, signal.SIGTERM)
    try:
        return child.wait(grace_s)
    except subprocess.TimeoutExpired:
        return kill(child)
    finally:
        signal_group(child, signal.SIGKILL)  # whatever the leader left behind


def kill(child: subprocess.Popen[bytes]) -> int:
    """SIGKILL to the child's process group; its exit code."""
    signal_group(child, signal.SIGKILL)
    return child.wait()


def signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to every process of the child's session that is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)


def holds() -> dict[str, bool]:
    """Which protections this machine gives, tried in a short process."""
    probe = (
        "import service.sandbox as s; from service import landlock; print(int(s._leave_network()), landlock.version())"
    )
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False, cwd=_PACKAGE_ROOT)
    return {
        "own_session": True,
        "resource_limits": True,
        "scrubbed_environment": True,
        "dies_with_worker": sys.platform == "linux",
        "no_network": run.stdout.split()[:1] == ["1"],
        "fenced_files": run.stdout.split()[1:] not in ([], ["0"]),
    }


def _environment(environ: Mapping[str, str], scratch: Path, cache_dir: Path) -> dict[str, str]:
    kept = {key: value for key, value in environ.items() if key in _KEPT_VARIABLES or key.startswith(_KEPT_PREFIXES)}
    return kept | {
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "MPLCONFIGDIR": str(cache_dir / "matplotlib"),  # a font cache built anew for every job costs seconds
        "PYTHONPATH": str(_PACKAGE_ROOT),
        "PYTHONSAFEPATH": "1",  # nothing is imported from the job's directory
        "PYTHONUNBUFFERED": "1",
        "PYTHONHASHSEED": "0",
    }


def _limit(limits: Limits) -> None:
    # RLIMIT_DATA counts private writable memory. RLIMIT_AS would also count the address space that CUDA and XLA reserve
    # and never touch, many times the machine's memory.
    for number, value in (
        (resource.RLIMIT_DATA, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_NPROC, limits.processes),
    ):
        if value:
            hard = resource.getrlimit(number)[1]
            ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(number, (ceiling, ceiling))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _leave_network() -> bool:
    """Move this process to an empty network namespace; False where the kernel does not allow it."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWNET) == 0:
        return True
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return False
    with contextlib.suppress(OSError):  # without the map the process still runs, as the overflow user
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")
    return True


def _die_with_parent() -> None:
    # After leaving the network: a change of credentials clears the parent-death signal.
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _fence(limits: Limits, command: Sequence[str]) -> bool:
    """See `landlock.fence`: the programs and libraries of the system and of the command, and the folders of the job."""
    python = [sys.prefix, sys.base_prefix, sys.executable, os.path.realpath(sys.executable), *sys.path]
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    named = [word for word in command if word.startswith("/") and Path(word).is_file()]
    proc = [f"/proc/{name}" for name in _PROC]
    readable = [*_SYSTEM, *proc, *python, *libraries, *named, str(_PACKAGE_ROOT)]
    return landlock.fence([Path(one) for one in readable if one], [Path(one) for one in limits.writable])


def _become(arguments: Sequence[str]) -> None:
    limits = Limits(**json.loads(arguments[0]))
    _limit(limits)
    os.nice(limits.niceness)
    if limits.network != "off" and not _leave_network() and limits.network == "require":
        sys.exit("no network namespace, and one is required")
    _die_with_parent()
    if limits.files != "off" and not _fence(limits, arguments[1:]) and limits.files == "require":
        sys.exit("no Landlock, and it is required")
    os.execvp(arguments[1], list(arguments[1:]))  # noqa: S606 - becoming the command is the point


if __name__ == "__main__":
    _become(sys.argv[1:])
