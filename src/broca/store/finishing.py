"""How a run ends: its rows in one part, its files in the manifest, its leftovers gone."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from broca.claims import Claims
from broca.errors import RunError
from broca.store.damage import CONFIG, MANIFEST, find_damage, make_manifest, read_manifest, tidy
from broca.store.environment import ENVIRONMENT
from broca.store.files import files_in, read_json, write_json
from broca.store.joining import CLAIMS, JOINED, PARTS, PASSING, PROGRESS, merge_joined
from broca.store.rows import RowFolder


def finish(path: Path, rows: RowFolder) -> None:
    """Put rows into one part, and write the manifest of everything.

    Processes that joined may still compute what others have computed as well. Rows that one adds
    while this goes on are taken into the one part, or away; later it adds none (`withdraw`).
    """
    if (path / JOINED).exists():
        environment = read_json(path / ENVIRONMENT)
        others = merge_joined(path, environment)
        if others:
            write_json(path / ENVIRONMENT, {**environment, "joined": others})
    tidy(path)
    files = _with_one_part(path, rows)
    write_json(path / MANIFEST, make_manifest(path, files))
    for part in set(rows.parts()).difference(files):
        part.unlink(missing_ok=True)
    (path / PROGRESS).unlink(missing_ok=True)
    shutil.rmtree(path / PARTS, ignore_errors=True)
    Claims(path / CLAIMS).clear()


def _with_one_part(path: Path, rows: RowFolder) -> list[Path]:
    """Files of a run, once one part holds all rows."""
    while True:
        rows.compact()
        files = list(_files(path))
        if sum(file.parent == rows.path for file in files) < 2:
            return files


def withdraw(path: Path, part: Path) -> None:
    """Take a part of rows away again if the run was finished without it."""
    if (path / MANIFEST).exists() and part.relative_to(path).as_posix() not in _listed(path):
        part.unlink(missing_ok=True)


def require_whole(path: Path) -> None:
    """Refuse a run that is not finished, or damaged.

    Raises:
        RunError: With what is damaged and what mends it.
    """
    command = shlex.join(["broca", "run", str(path / CONFIG), "--out", str(path)])
    if not (path / MANIFEST).exists():
        raise RunError("the run is not finished", str(path), f"Resume it: {command}")
    damaged = find_damage(path)
    if damaged:
        told = ", ".join(map(str, damaged[:3])) + (", …" if len(damaged) > 3 else "")
        look = shlex.join(["broca", "check", str(path)])
        raise RunError(
            f"the run is damaged: {told}", str(path), f"See {look}; {command} computes it again"
        )


def remove(path: Path) -> None:
    """Delete a finished run: the files its manifest names, and nothing else.

    Raises:
        RunError: It is not finished, or the folder holds something else.
    """
    listed = _listed(path)
    others = [file for file in _files(path) if file.relative_to(path).as_posix() not in listed]
    if others:
        raise RunError(
            f"this folder holds something that the run did not write ({others[0].name})",
            where=str(path),
            mend="Move it elsewhere, or choose another folder with --out",
        )
    shutil.rmtree(path)


def _listed(path: Path) -> set[str]:
    """Names of the files in a run's manifest."""
    return set((read_manifest(path) or {"files": {}})["files"])


def _files(path: Path) -> Iterator[Path]:
    """Files that a run consists of, but for its manifest."""
    for file in files_in(path):
        parts = file.relative_to(path).parts
        passing = parts[0] in PASSING or parts[-1].startswith(".")
        if not passing and file.name != MANIFEST:
            yield file
