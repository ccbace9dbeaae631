"""Nothing is overwritten that broca did not write."""

from __future__ import annotations

from pathlib import Path

from broca.errors import RunError

PAGE_MARK = '<meta name="generator" content="broca">'
"""Stands at the beginning of every page broca writes."""

_BEGINNING = 4096


def refuse_overwriting(path: Path, mark: str | None = None) -> None:
    """Refuse a place where a file would be lost.

    Args:
        path: Where a file is to be written.
        mark: A text that stands at the beginning of files broca wrote there, which may be
            replaced; None where no existing file may be.

    Raises:
        RunError: A file is there that broca did not write, or a folder.
    """
    if not path.exists() and not path.is_symlink():
        return
    if mark is not None and path.is_file():
        with path.open("rb") as file:
            if mark.encode() in file.read(_BEGINNING):
                return
    raise RunError(
        "this is a folder" if path.is_dir() else "there is a file already, which would be lost",
        str(path),
        "Choose another place with --out, or remove it yourself",
    )
