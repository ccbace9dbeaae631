"""Who computes what, where several processes share a run folder and nothing else.

1. A process that wants an item makes the file of the item's name, which only one can make, and
   writes who it is into it, with a token.
2. While it computes, it touches the file every few seconds. It touches and deletes the file only
   as long as its token stands there.
3. A claim that has not been touched for a minute, or whose process on this machine is gone, is
   anybody's again: it is renamed first, which again only one can do, and put back if it was
   touched or taken by another process meanwhile.

A process that was silent, not dead, then computes what another computes too; so may a third, in
the moment until a claim is put back. All store the same rows under the same name: nothing is lost
but time.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broca.errors import EngineError
from broca.processes import is_gone, this_process

BEAT_SECONDS = 5.0
EXPIRY_SECONDS = 60.0


@dataclass(frozen=True)
class Claim:
    """A claim as it was read.

    Attributes:
        who: Machine, process and token, as far as they are written.
        touched: When it was touched last, by the clock of the file system.
        stamp: What tells it from any other state of the file.
    """

    who: dict[str, Any]
    touched: float
    stamp: tuple[int, int]

    def is_dead(self, now: float, expiry: float) -> bool:
        """Whether it is anybody's again."""
        return is_gone(self.who) or now - self.touched > expiry


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
        path, token = self.folder / name, uuid.uuid4().hex
        if not self._take(path, token):
            yield False
            return
        ended = threading.Event()
        beat = threading.Thread(target=self._beat, args=(path, token, ended), daemon=True)
        with suppress(RuntimeError):  # no memory for it: another may compute the same in a while
            beat.start()
        try:
            yield True
        finally:
            ended.set()
            if beat.is_alive():
                beat.join()
            claim = _read(path)
            if claim is not None and claim.who.get("token") == token:
                path.unlink(missing_ok=True)

    def living(self) -> list[dict[str, Any]]:
        """Who holds a claim and still touches it, claim by claim."""
        return holders(self.folder, self.expiry)

    def clear(self) -> None:
        """Take dead claims away, and the folder if no other is left."""
        now = time_in(self.folder)
        for path in _files(self.folder):
            claim = _read(path)
            if claim is not None and claim.is_dead(now, self.expiry):
                _bury(path, claim)
        if not _files(self.folder):
            shutil.rmtree(self.folder, ignore_errors=True)

    def _take(self, path: Path, token: str) -> bool:
        claim = _read(path)
        if claim is not None:
            dead = claim.is_dead(time_in(self.folder), self.expiry)
            if not dead or not _bury(path, claim):
                return False
        try:
            self._write(path, self._made(path), token)
        except FileExistsError:
            return False
        except OSError as error:
            raise EngineError(
                f"cannot claim work: {error.strerror}",
                str(self.folder),
                "Use a folder that all processes may write to",
            ) from error
        return True

    def _write(self, path: Path, handle: int, token: str) -> None:
        """Say in a new claim whose it is; what cannot be said is no claim."""
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({**self._who, "token": token}, file)
        except OSError:
            path.unlink(missing_ok=True)
            raise

    def _made(self, path: Path) -> int:
        how = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        self.folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another process has just cleared the folder
            return os.open(path, how, 0o644)
        self.folder.mkdir(parents=True, exist_ok=True)
        return os.open(path, how, 0o644)

    def _beat(self, path: Path, token: str, ended: threading.Event) -> None:
        while not ended.wait(min(BEAT_SECONDS, self.expiry / 4)):
            with suppress(OSError):
                if not _touch(path, token):
                    return


def time_in(folder: Path) -> float:
    """The time by the clock of a folder's file system, which may not be this machine's.

    That of this machine where no file can be made there.
    """
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".clock-") as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:  # no folder, or it may only be read
        return time.time()


def holders(folder: Path, expiry: float = EXPIRY_SECONDS) -> list[dict[str, Any]]:
    """Who holds a claim in a folder and still touches it, claim by claim.

    Args:
        folder: Where the claims lie; it need not be there.
        expiry: Seconds without a touch after which a claim is anybody's again.
    """
    claims = [claim for claim in map(_read, _files(folder)) if claim is not None]
    if not claims:
        return []
    now = time_in(folder)
    return [claim.who for claim in claims if not claim.is_dead(now, expiry)]


def _files(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:
        return []


def _read(path: Path) -> Claim | None:
    """A claim, None if there is none; of one that is half written, nothing is known but its age."""
    try:
        with path.open("rb") as file:
            status, text = os.fstat(file.fileno()), file.read()
    except OSError:
        return None
    try:
        who = json.loads(text)
    except (ValueError, RecursionError):
        who = {}
    stamp = status.st_ino, status.st_mtime_ns
    return Claim(who if isinstance(who, dict) else {}, status.st_mtime, stamp)


def _touch(path: Path, token: str) -> bool:
    """Renew a claim; False if it is another's by now."""
    with path.open("rb") as file:
        if token.encode() not in file.read():
            return False
        os.utime(file.fileno() if os.utime in os.supports_fd else path)
    return True


def _bury(path: Path, judged: Claim) -> bool:
    """Take a dead claim away; False if it was touched or taken since it was judged, and stays."""
    grave = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.rename(grave)
    except OSError:  # another process was quicker
        return True
    found = _read(grave)
    living = found is not None and found.stamp != judged.stamp
    with suppress(OSError):  # a third has taken it, or the file system knows no links
        if living:
            os.link(grave, path)
    with suppress(OSError):
        grave.unlink()
    return not living
