"""Share the items of a run with other processes, by claims in its folder.

Every process makes the same items in the same order and takes those that nobody has claimed or
stored. Slurm arrays, torchrun or two terminals need nothing else than the folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from broca.claims import EXPIRY_SECONDS, Claims
from broca.engines.engine import Stored, Work
from broca.engines.local import LocalEngine
from broca.engines.worker_log import WorkerLog
from broca.progress import Advance, progress_bar

FIRST_POLL_SECONDS, POLL_SECONDS = 0.1, 1.0
"""How long is waited for others, first and at most."""


class SharedEngine(LocalEngine):
    """Computes in this process what no other process computes.

    Args:
        folder: Where the claims lie, on a file system that all processes see.
        expiry: Seconds after which the claim of a silent process is anybody's again.
        log: File of this process's log, None for none.
    """

    def __init__(
        self, folder: Path, expiry: float = EXPIRY_SECONDS, log: Path | None = None
    ) -> None:
        super().__init__()
        self._claims = Claims(folder, expiry)
        self._log = WorkerLog(log)

    def _compute(self, work: Work) -> Iterator[tuple[Any, Any]]:
        """Yields what this process has computed."""
        if work.stored is None:
            yield from super()._compute(work)
            return
        left = dict(zip(work.names, zip(work.items, work.weights, strict=True), strict=True))
        with progress_bar(work.description, sum(work.weights)) as advance:
            wait = FIRST_POLL_SECONDS
            while left:
                before = len(left)
                yield from self._round(work.function, left, work.stored, advance)
                if len(left) < before:
                    wait = FIRST_POLL_SECONDS
                else:
                    time.sleep(wait)
                    wait = min(2 * wait, POLL_SECONDS)

    def _round(
        self,
        function: Callable[[Any], Any],
        left: dict[str, tuple[Any, int]],
        stored: Stored,
        advance: Advance,
    ) -> Iterator[tuple[Any, Any]]:
        """Go through what is left once; leave there what others are computing."""
        for name, (item, weight) in list(left.items()):
            done = stored(name)
            if not done:
                with self._claims.hold(name) as held:
                    # Another process may have stored it between the look and the claim.
                    done = stored(name)
                    if held and not done:
                        start = time.monotonic()
                        result = self._limit.compute(function, item)
                        self._log.write(f"{name} {time.monotonic() - start:.1f} s")
                        yield item, result
                        done = True
            if done:
                del left[name]
                advance(weight, self._note())

    def _note(self) -> str:
        others = len(self._claims.living())
        return f"{others} other process{'es' if others > 1 else ''}" if others else ""
