"""Which process does something, as others can tell whether it still runs."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any


def this_process() -> dict[str, Any]:
    """Name of this machine and number of this process."""
    return {"host": socket.gethostname(), "pid": os.getpid()}


def is_gone(who: Mapping[str, Any]) -> bool:
    """Whether a process of this machine has ended; False where that cannot be told."""
    pid = who.get("pid")
    if who.get("host") != socket.gethostname() or not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's
        return False
    return False
