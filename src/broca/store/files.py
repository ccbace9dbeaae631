"""How broca writes files: beside their place, flushed to the disk, then renamed over it.

A reader therefore sees a whole file or none, whenever the writer is killed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from broca.errors import RunError

TEMPORARY_MARK = ".writing-"
"""A name that holds this belongs to a write that never ended; readers skip it."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; when the block ends well, rename it to `path`.

    Raises:
        RunError: The file cannot be written (no right, no space, no folder).
    """
    beside = path.with_name(f".{path.name}{TEMPORARY_MARK}{uuid.uuid4().hex[:12]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        _flush(beside)
        os.replace(beside, path)
        _flush(path.parent)
    except OSError as error:
        raise RunError(
            f"cannot write: {error.strerror or error}",
            where=str(path),
            mend="Free space or choose a folder you may write to with --out; finished work is kept",
        ) from error
    finally:
        with suppress(OSError):
            beside.unlink()


def _flush(path: Path) -> None:
    """Push a file or folder to the disk, so that the rename cannot overtake the content."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open folders
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all (UTF-8, line ends as given)."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: Any) -> None:
    """Write plain values as readable JSON, keys sorted; NaN and infinity are refused."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        RunError: The file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise RunError("a file of the run is missing", where=str(path)) from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"a file of the run cannot be read: {error}", where=str(path)) from error


def files_in(folder: Path) -> Iterator[Path]:
    """Files in `folder` and below, without those whose writing never ended.

    Other processes may take files and folders away meanwhile: those are left out.
    """
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if TEMPORARY_MARK not in name]
        files = (Path(place, name) for name in names if TEMPORARY_MARK not in name)
        yield from (file for file in files if file.is_file())


def sweep(folder: Path) -> None:
    """Delete the files and folders that killed writes left in `folder` and below."""
    for place, folders, names in os.walk(folder):
        for name in filter(_is_leftover, folders):
            shutil.rmtree(Path(place, name), ignore_errors=True)
        for name in filter(_is_leftover, names):
            Path(place, name).unlink(missing_ok=True)
        folders[:] = [name for name in folders if not _is_leftover(name)]


def _is_leftover(name: str) -> bool:
    return name.startswith(".") and TEMPORARY_MARK in name


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """The one JSON text of a plain value: keys sorted, no spaces, 2.0 written as 2.

    Equal values give equal texts whatever the order of their keys and whether a list came as a
    tuple.

    Raises:
        TypeError: Something in `value` is no plain value.
        ValueError: A number is NaN or infinite.
    """
    return json.dumps(
        _plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("keys must be strings")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def condition_key(determinants: Mapping[str, Any]) -> str:
    """The key of a condition: a hash of all that determines its rows, and of nothing else.

    Args:
        determinants: Plain values: weights fingerprint, digest of the neurons, intervention,
            ids and texts of the prompts (or their hash), settings of the measurement. Labels
            (study, control, seed of a set already drawn) stay out: they change no row.

    Returns:
        32 hexadecimal digits, equal on every machine and for every order of keys.
    """
    return hashlib.sha256(canonical_json(determinants).encode()).hexdigest()[:32]
