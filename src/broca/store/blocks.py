"""Large arrays on disk, written through memory maps: space is claimed before, checksums come last.

A memory map on a full disk ends the process with SIGBUS and no word. So every block's space is
claimed when it is made, where the operating system can still say no in a sentence.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from broca.errors import RunError
from broca.store.files import TEMPORARY_MARK, read_json, write_json

DONE = "finished.json"
_UNKNOWN = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)  # a file system that cannot claim space
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_CHUNK = 1 << 24


def beside_of(place: Path) -> Path:
    """A new folder beside the one that blocks are for, to write to: nobody else does.

    Two processes that write the same blocks at once would cut off each other's memory maps.
    """
    return place.with_name(f".{place.name}{TEMPORARY_MARK}{uuid.uuid4().hex[:12]}")


def claim_block(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """A new float32 array of a shape, mapped from a `.npy` file whose space is really there.

    Raises:
        RunError: The disk is full, a quota is reached, or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        block = np.lib.format.open_memmap(path, "w+", np.dtype(np.float32), shape)
        _claim(path)
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        size = f"{4 * int(np.prod(shape)) / 2**20:,.1f} MiB of responses"
        what = f"no space for {size}" if error.errno in _FULL else f"cannot write {size}"
        raise RunError(
            f"{what}: {error.strerror or error}",
            str(path),
            "Free space or choose another folder with --out, then repeat the command: what is "
            "finished is kept",
        ) from error
    return block


def _claim(path: Path) -> None:
    handle = os.open(path, os.O_RDWR)
    try:
        size = os.fstat(handle).st_size
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(handle, 0, size)
                return
            except OSError as error:
                if error.errno not in _UNKNOWN:
                    raise
        _write_over(handle, size)
    finally:
        os.close(handle)


def _write_over(handle: int, size: int) -> None:
    """Write every byte as it is read: slower, and as sure."""
    at = 0
    while at < size:
        data = os.pread(handle, min(_CHUNK, size - at), at)
        at += os.pwrite(handle, data, at)


def finish_blocks(folder: Path, about: Mapping[str, Any]) -> None:
    """Mark a folder of blocks as finished, with size and checksum of each.

    Raises:
        RunError: The mark cannot be written.
    """
    files = sorted(folder.glob("*.npy"))
    entries = {file.name: block_entry(file) for file in files}
    write_json(folder / DONE, {**about, "blocks": entries})


def block_entry(file: Path) -> dict[str, int]:
    """Size and checksum of a block, as the mark of its folder holds them."""
    return {"bytes": file.stat().st_size, "crc32": _crc32(file)}


def settle_blocks(folder: Path, place: Path) -> None:
    """Move a finished folder of blocks to its place, unless another process has done so.

    Raises:
        RunError: It cannot be moved.
    """
    if place.exists() and damaged_blocks(place, quick=True):
        shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):  # it is there already
        folder.rename(place)
    if damaged_blocks(place, quick=True):
        raise RunError("recorded responses cannot be moved to their place", str(place))
    shutil.rmtree(folder, ignore_errors=True)


def damaged_blocks(folder: Path, *, quick: bool = False) -> list[str]:
    """Files of a finished folder of blocks that are missing or not as they were written.

    Args:
        folder: The folder.
        quick: Compare sizes only.
    """
    try:
        listed = read_json(folder / DONE)["blocks"]
        return [name for name, entry in listed.items() if not _same(folder / name, entry, quick)]
    except (RunError, KeyError, TypeError, AttributeError):
        return [DONE]


def _same(file: Path, entry: Mapping[str, Any], quick: bool) -> bool:
    if not file.is_file() or file.stat().st_size != entry["bytes"]:
        return False
    return quick or _crc32(file) == entry["crc32"]


def _crc32(file: Path) -> int:
    found = 0
    with file.open("rb") as stream:
        for chunk in iter(lambda: stream.read(_CHUNK), b""):
            found = zlib.crc32(chunk, found)
    return found


def forget_unfinished(folders: Iterable[Path]) -> None:
    """Delete folders of blocks that a killed recording left."""
    for folder in folders:
        unfinished = TEMPORARY_MARK in folder.name or not (folder / DONE).exists()
        if folder.is_dir() and unfinished:
            shutil.rmtree(folder, ignore_errors=True)
