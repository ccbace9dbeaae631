"""Who computes what, where several processes share a run folder and nothing else.

1. A process that wants an item makes the file of the item's name, which only one can make.
2. While it computes, it touches the file every few seconds.
3. A claim that has not been touched for a minute, or whose process on this machine is gone, is
   anybody's again: it is renamed first, which again only one can do.

A process that was slow, not dead, then computes what another computes too: both store the same
rows under the same name, so nothing is lost but time.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from broca.errors import EngineError
from broca.processes import is_gone, this_process

BEAT_SECONDS = 5.0
EXPIRY_SECONDS = 60.0


class Claims:
    """The claims of one process in a folder that all share.

    Args:
        folder: Where the claims lie.
        expiry: Seconds without a touch after which a claim is anybody's again.
    """

    def __init__(self, folder: Path, expiry: float = EXPIRY_SECONDS) -> None:
        self.folder = folder
        self.expiry = expiry
        self._who = this_process()

    @contextmanager
    def hold(self, name: str) -> Iterator[bool]:
        """Claim an item while the block runs; gives whether that succeeded.

        Raises:
            EngineError: The folder cannot be written.
        """
        path = self.folder / name
        if not self._take(path):
            yield False
            return
        ended = threading.Event()
        beat = threading.Thread(target=self._beat, args=(path, ended), daemon=True)
        beat.start()
        try:
            yield True
        finally:
            ended.set()
            beat.join()
            path.unlink(missing_ok=True)

    def living(self) -> int:
        """How many claims are held by processes that still touch them."""
        if not self.folder.exists():
            return 0
        return sum(not self._is_dead(path) for path in self._files())

    def _files(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if not path.name.startswith(".")]

    def _take(self, path: Path) -> bool:
        if path.exists() and self._is_dead(path):
            self._bury(path)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        except OSError as error:
            raise EngineError(
                f"cannot claim work: {error.strerror}",
                str(self.folder),
                "Use a folder that all processes may write to",
            ) from error
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(self._who, file)
        return True

    def _bury(self, path: Path) -> None:
        """Take a dead claim away; of several processes that try, one succeeds."""
        grave = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        with suppress(OSError):
            path.rename(grave)
            grave.unlink()

    def _is_dead(self, path: Path) -> bool:
        try:
            age = self._now() - path.stat().st_mtime
            who = json.loads(path.read_text(encoding="utf-8") or "{}")
        except (OSError, ValueError):
            return False  # just made or just released
        return is_gone(who) or age > self.expiry

    def _now(self) -> float:
        """The time of the file system, whose clock may not be this machine's."""
        clock = self.folder / f".clock-{self._who['host']}-{self._who['pid']}"
        clock.touch()
        now = clock.stat().st_mtime
        clock.unlink(missing_ok=True)
        return now

    def _beat(self, path: Path, ended: threading.Event) -> None:
        while not ended.wait(min(BEAT_SECONDS, self.expiry / 4)):
            with suppress(OSError):
                os.utime(path)
