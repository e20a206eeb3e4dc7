"""A fence around a process's files, where the kernel has Landlock: it and what it starts see nothing else from then on.

No library that is kept up speaks to it (November 2026), and it is three system calls; see landlock(7).
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""Numbers of the calls, the same on every architecture."""
_ASK_VERSION, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_FIRST = (1 << 13) - 1
"""All rights of version 1; those after it came with versions 2 and 3."""
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE


def version() -> int:
    """Of Landlock in this kernel; 0 where there is none."""
    return max(0, _call(_CREATE_RULESET, None, 0, _ASK_VERSION)) if sys.platform == "linux" else 0


def fence(readable: Iterable[Path], writable: Iterable[Path]) -> bool:
    """Keep this process to what is below these paths; those that are not there are left out.

    The process must have given up new privileges (``PR_SET_NO_NEW_PRIVS``).

    Args:
        readable: may be read and run; devices below them may be written.
        writable: may be changed in every way.

    Returns:
        False, and nothing is fenced, where the kernel has no Landlock.

    Raises:
        OSError: the kernel has it and refuses.
    """
    found = version()
    if not found:
        return False
    handled = _FIRST | (_REFER if found > 1 else 0) | (_TRUNCATE if found > 2 else 0)
    attributes = struct.pack("=Q", handled)
    ruleset = _checked(_call(_CREATE_RULESET, attributes, len(attributes), 0))
    try:
        for rights, paths in ((_READ, readable), (handled, writable), (_READ | _WRITE_FILE, _devices())):
            for path in paths:
                _allow(ruleset, path, rights & handled)
        _checked(_call(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return True


def _devices() -> list[Path]:
    """What programs write to below /dev: null and random numbers, and graphics cards where there are any."""
    below = [Path("/dev"), *(path for path in Path("/dev").glob("nvidia*") if path.is_dir()), Path("/dev/dri")]
    return [path for folder in below if folder.is_dir() for path in folder.iterdir() if path.is_char_device()]


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # not on this machine
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_FILES
        attributes = struct.pack("=Qi", rights, descriptor)
        _checked(_call(_ADD_RULE, ruleset, _PATH_BENEATH, attributes, 0))
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.syscall(number, *arguments))


def _checked(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"Landlock: {os.strerror(error)}")
    return result
