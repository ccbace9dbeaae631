"""What a worker did when: a line each, in a file of the run's folder."""

from __future__ import annotations

import time
from pathlib import Path


class WorkerLog:
    """The log of one worker.

    Args:
        path: Its file, None for no log.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def write(self, text: str) -> None:
        """Add a line; where the folder is not on this machine's file systems, nothing happens."""
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        except OSError:
            self._path = None
