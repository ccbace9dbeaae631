"""Which runs there are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from broca.claims import holders, time_in
from broca.errors import RunError
from broca.processes import is_gone
from broca.progress import Reached, in_words
from broca.reading import load_toml
from broca.store.config import is_run
from broca.store.damage import CONFIG, MANIFEST, find_damage, read_manifest
from broca.store.environment import ENVIRONMENT
from broca.store.files import read_json
from broca.store.folder import SUMMARY
from broca.store.joining import CLAIMS, PROGRESS

SILENT_SECONDS = 60.0  # after which it is said how old a word about progress is


@dataclass(frozen=True)
class RunEntry:
    """One line of `broca ls`.

    Attributes:
        path: The run folder.
        study: What was asked, as the recipe names it.
        model: The model under study, as the recipe names it.
        state: "finished", "unfinished", or "damaged".
        rows: Number of rows, None while unfinished.
        seconds: How long it took, None if not stored.
        changed: When it was last written, seconds since 1970.
        reached: How far it is, in words; "" unless a process writes it.
    """

    path: Path
    study: str
    model: str
    state: str
    rows: int | None
    seconds: float | None
    changed: float
    reached: str = ""


def list_runs(root: str | Path, depth: int = 4) -> list[RunEntry]:
    """The runs in `root` and at most `depth` folders below, newest first."""
    entries = [_entry(path) for path in _run_folders(Path(root), depth)]
    return sorted(entries, key=lambda entry: (-entry.changed, str(entry.path)))


def _run_folders(folder: Path, depth: int) -> Iterator[Path]:
    if is_run(folder):
        yield folder
    elif depth > 0 and folder.is_dir():
        for child in _children(folder):
            if child.is_dir() and not child.is_symlink() and not child.name.startswith("."):
                yield from _run_folders(child, depth - 1)


def _entry(path: Path) -> RunEntry:
    """What can be told of a run; a damaged one is listed as such and fails no other."""
    config, summary = _config(path), _json(path / SUMMARY)
    manifest = read_manifest(path)
    finished = (path / MANIFEST).exists()
    damaged = (finished and bool(find_damage(path, quick=True))) or not config
    study = config.get("study") or config.get("studies") or config.get("name") or ""
    seconds = summary.get("seconds")
    return RunEntry(
        path=path,
        study=", ".join(map(str, study)) if isinstance(study, list) else str(study),
        model=str(config.get("model") or _json(path / ENVIRONMENT).get("model", "")),
        state="damaged" if damaged else "finished" if finished else "unfinished",
        rows=None if manifest is None else manifest["rows"],
        seconds=seconds if isinstance(seconds, int | float) else None,
        reached="" if finished else _reached(path),
        changed=_changed(path),
    )


def _children(folder: Path) -> list[Path]:
    """What lies in a folder; nothing if it has gone meanwhile, or may not be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _changed(path: Path) -> float:
    """When a run was last written; files may come and go meanwhile."""
    changed = 0.0
    for file in _children(path):
        with suppress(OSError):
            changed = max(changed, file.stat().st_mtime)
    return changed


def _reached(path: Path) -> str:
    """What the process that writes a run last told of it, and whether it is gone.

    It may be on a machine with another clock: how long ago is told by that of the file system.
    """
    told = _json(path / PROGRESS)
    try:
        age = max(0.0, time_in(path) - (path / PROGRESS).stat().st_mtime)
        by = told.pop("by", {})
        reached = Reached(**told)
        if is_gone(by):
            return _without(path, in_words(replace(reached, seconds=0.0, note="")))
        words = in_words(reached)
    except (OSError, TypeError, KeyError, AttributeError):
        return ""
    minutes = round(age / 60)
    ago = f"{minutes} minute{'s' if minutes > 1 else ''} ago"
    return words if age < SILENT_SECONDS else f"{words} ({ago})"


def _without(path: Path, words: str) -> str:
    """How far a run was when the process that began it ended, and who goes on with it."""
    claims = holders(path / CLAIMS)
    others = sorted({f"process {who.get('pid')} of {who.get('host')}" for who in claims})
    if not others:
        return f"stopped, {words}"
    return f"{words} when whoever began it ended; still computing: {', '.join(others)}"


def _config(path: Path) -> dict[str, Any]:
    try:
        return load_toml((path / CONFIG).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}


def _json(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except RunError:
        return {}
    return found if isinstance(found, dict) else {}
