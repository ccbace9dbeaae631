"""What processes that share a run leave in its folder while it goes on; none of it is a result."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from broca.store.files import condition_key, read_json, write_json

CLAIMS, LOGS, PARTS = ".claims", "logs", ".parts"
PROGRESS, JOINED = "progress.json", "joined"
PASSING = (CLAIMS, JOINED, LOGS, PARTS, PROGRESS)
"""Names within a run's folder that are no part of the run."""


def note_joined(path: Path, environment: Mapping[str, Any]) -> None:
    """Keep what this process, which joined, computes with, until the run is finished."""
    name = f"{condition_key(environment)}-{socket.gethostname()}-{os.getpid()}.json"
    write_json(path / JOINED / name, environment)


def n_joined(path: Path) -> int:
    """How many processes have joined a run that is not finished."""
    return len(list((path / JOINED).glob("*.json")))


def merge_joined(path: Path, environment: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What processes that joined computed with, where it differs from the run's own environment.

    Their notes are taken away.
    """
    notes = sorted((path / JOINED).glob("*.json"))
    own = {key: value for key, value in environment.items() if key != "earlier"}
    found: list[dict[str, Any]] = []
    for file in notes:
        note = read_json(file)
        if note != own and note not in found:
            found.append(note)
        file.unlink()
    with suppress(OSError):  # none there, or one more has just come
        (path / JOINED).rmdir()
    return found


def forget_joined(path: Path) -> None:
    """Take away notes of processes that joined when all was measured."""
    for file in (path / JOINED).glob("*.json"):
        file.unlink(missing_ok=True)
    with suppress(OSError):
        (path / JOINED).rmdir()
