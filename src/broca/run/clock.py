"""How long a run took: all its sittings together, whoever else took part."""

from __future__ import annotations

import time
from typing import Any

from broca.store import RunFolder
from broca.store.joining import n_joined

ELAPSED = "elapsed.json"


class Clock:
    """Seconds by the clock spent on a run, over all its sittings.

    A sitting that is killed counts as far as its progress was stored.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        earlier = elapsed(folder)
        self._earlier, self._sittings = earlier["seconds"], earlier["sittings"] + 1
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Those of earlier sittings and of this one."""
        return self._earlier + time.perf_counter() - self._start

    def store(self) -> None:
        """Keep in the folder what has been spent."""
        spent = {
            "seconds": round(self.seconds, 2),
            "sittings": self._sittings,
            "joined": n_joined(self._folder.path),
        }
        self._folder.write_json(ELAPSED, spent)

    def __enter__(self) -> Clock:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None and not self._folder.joined:
            self.store()


def elapsed(folder: RunFolder) -> dict[str, Any]:
    """What is kept of a run's time.

    Returns:
        Seconds, how many sittings they were spent in, and how many further processes took part.
    """
    nothing = {"seconds": 0.0, "sittings": 0, "joined": 0}
    if not (folder.path / ELAPSED).exists():
        return nothing
    return {**nothing, "sittings": 1, **folder.read_json(ELAPSED)}
