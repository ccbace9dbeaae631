"""What processes that share a run leave in its folder while it goes on; none of it is a result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from broca.store.files import condition_key, read_json, write_json

CLAIMS, LOGS, PARTS = ".claims", "logs", ".parts"
PROGRESS, JOINED = "progress.json", "joined"
PASSING = (CLAIMS, LOGS, PARTS, PROGRESS)
"""Names within a run's folder that are no part of the run."""


def note_joined(path: Path, environment: Mapping[str, Any]) -> None:
    """Keep what a process that joined computes with, until the run is finished."""
    write_json(path / JOINED / f"{condition_key(environment)}.json", environment)


def merge_joined(path: Path, environment: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What processes that joined computed with, where it differs from the run's own environment.

    Their notes are taken away.
    """
    notes = sorted((path / JOINED).glob("*.json"))
    own = {key: value for key, value in environment.items() if key != "earlier"}
    found = [note for file in notes if (note := read_json(file)) != own]
    for file in notes:
        file.unlink()
    if notes:
        (path / JOINED).rmdir()
    return found
