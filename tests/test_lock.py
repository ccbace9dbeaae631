"""One writer per folder, whatever the file system and whoever removes the lock's file."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from broca.errors import RunError
from broca.store import lock
from broca.store.lock import FolderLock

pytest.importorskip("fcntl")


def test_a_folder_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def unknown(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "lockf", unknown)
    (tmp_path / "kept").write_text("rows")
    with pytest.raises(RunError, match=r"knows no locks: No locks available.*--out"):
        FolderLock.acquire(tmp_path)
    assert (tmp_path / "kept").read_text() == "rows"


def test_a_lock_on_a_file_that_was_removed_guards_nothing(tmp_path: Path, monkeypatch):
    """Whoever held the lock removes its file between our opening it and locking it."""
    real, removed = lock.fcntl.lockf, []

    def removing(handle: int, how: int) -> None:
        real(handle, how)
        if not removed:
            removed.append(True)
            (tmp_path / FolderLock.NAME).unlink()

    monkeypatch.setattr(lock.fcntl, "lockf", removing)
    held = FolderLock.acquire(tmp_path)
    assert held.handle is not None
    assert os.fstat(held.handle).st_ino == (tmp_path / FolderLock.NAME).stat().st_ino
    other = "from broca.store.lock import FolderLock; from pathlib import Path; import sys; "
    other += "FolderLock.acquire(Path(sys.argv[1]))"
    found = subprocess.run([sys.executable, "-c", other, tmp_path], capture_output=True, text=True)
    assert "another process is writing this run" in found.stderr
    held.release()
