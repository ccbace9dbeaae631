"""One writer per run folder."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from broca.errors import RunError

try:
    import fcntl
except ImportError:  # not on Windows: there runs are not guarded against a second writer
    fcntl = None


class FolderBusyError(RunError):
    """Another process is writing the run."""


@dataclass
class FolderLock:
    """A lock the operating system drops when its process ends, however it ends.

    It belongs to the process, not to this object: the same process may take it again, so a run
    interrupted in a notebook resumes there.
    """

    path: Path
    handle: int | None

    NAME: ClassVar[str] = ".lock"

    @classmethod
    def acquire(cls, folder: Path) -> Self:
        """Make the folder if need be and become its only writer.

        Raises:
            RunError: The folder cannot be written, or another process is writing it.
        """
        path = folder / cls.NAME
        while True:
            handle = _opened(path)
            if _is_locked(handle, folder):
                return cls(path, handle)
            os.close(handle)

    def release(self) -> None:
        """Give the folder free and remove the lock's file."""
        if self.handle is not None:
            self.path.unlink(missing_ok=True)
            os.close(self.handle)
            self.handle = None


def _opened(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RunError(
            f"cannot write to this folder: {error.strerror}",
            where=str(path.parent),
            mend="Choose a folder you may write to with --out",
        ) from error


def _is_locked(handle: int, folder: Path) -> bool:
    """Lock a file that was opened; False if whoever held it has removed it meanwhile.

    A lock on a removed file guards nothing: the next process makes a new one.

    Raises:
        RunError: Another process holds it, or the file system knows no locks.
    """
    if fcntl is None:
        return True
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise FolderBusyError(
                "another process is writing this run",
                where=str(folder),
                mend="Wait until it ends, take part with --join, or choose another folder "
                "with --out",
            ) from error
        raise RunError(
            f"the file system of this folder knows no locks: {error.strerror}",
            where=str(folder),
            mend="Choose a folder on another file system with --out",
        ) from error
    return os.fstat(handle).st_nlink > 0
