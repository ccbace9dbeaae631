"""Which process does something, as others can tell whether it still runs; and on how many cores."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_NUMBERS = "/proc/self/ns/pid"


def this_process() -> dict[str, Any]:
    """Name of this machine, number of this process, and among which processes it counts."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "among": _among()}


def is_gone(who: Mapping[str, Any]) -> bool:
    """Whether a process of this machine has ended; False where that cannot be told.

    Containers may have the machine's name, and numbers of processes of their own.
    """
    pid = who.get("pid")
    here = who.get("host") == socket.gethostname() and who.get("among") == _among()
    if not here or not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's
        return False
    return False


def _among() -> str:
    """Which processes this one's number tells it from; "" where all of a machine have one."""
    try:
        return os.readlink(_NUMBERS)
    except OSError:  # not on Linux
        return ""


def usable_cores() -> int:
    """Cores that this process may use: fewer than the machine has in containers and batch jobs."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    there = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(there, _quota(there)))


def _quota(there: int) -> int:
    """Cores' worth of time that a container is given, all of them where it is not bounded."""
    try:
        given, period = _QUOTA.read_text(encoding="ascii").split()
        return math.ceil(int(given) / int(period))
    except (OSError, ValueError, ZeroDivisionError):  # no container, or "max"
        return there
