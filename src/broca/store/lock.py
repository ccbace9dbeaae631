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
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RunError(
                f"cannot write to this folder: {error.strerror}",
                where=str(folder),
                mend="Choose a folder you may write to with --out",
            ) from error
        if fcntl is not None:
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
        return cls(path, handle)

    def release(self) -> None:
        """Give the folder free and remove the lock's file."""
        if self.handle is not None:
            self.path.unlink(missing_ok=True)
            os.close(self.handle)
            self.handle = None
