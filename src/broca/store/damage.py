"""What of a run is damaged, and how it is mended: damaged files go, the run computes them again.

1. A finished run is compared with its manifest: size and SHA-256 of every file.
2. Of an unfinished one, what can be read shows itself whole: rows (their pages carry checksums),
   JSON, recorded responses (a checksum per block).
3. Mending deletes what is damaged and the manifest. Resumed, the run finds the rest stored.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

from broca.claims import Claims
from broca.errors import RunError
from broca.store.blocks import DONE, damaged_blocks, forget_unfinished
from broca.store.files import files_in, read_json, sha256_of, sweep
from broca.store.joining import CLAIMS, PARTS
from broca.store.rows import is_whole, n_rows

FORMAT = "broca-run/1"
CONFIG, MANIFEST, REPORT = "config.toml", "manifest.json", "report.html"

KEPT = (
    "borders",
    "editable",
    "injected",
    "known",
    "letters",
    "located",
    "planted",
    "relation",
    "truth",
    "values",
    "words",
)
"""Folders of plain values found with the model (`broca.run.keeping`)."""

_COMPUTED = ("attributions", "rows", "sets", PARTS, *KEPT)

What = Literal["is missing", "has changed", "cannot be read"]


@dataclass(frozen=True)
class Damage:
    """One damaged file of a run.

    Attributes:
        name: The file, within the run's folder.
        what: What is wrong with it.
    """

    name: str
    what: What

    @property
    def again(self) -> str:
        """What is computed again when the run is resumed."""
        kind = self.name.partition("/")[0]
        return {
            "rows": "the rows it held",
            "sets": "written again from the recorded responses or attributions",
            "responses": "the responses of its prompts are recorded again",
            "attributions": "the attributions of its queries",
            **dict.fromkeys(KEPT, "the values it held"),
            CONFIG: "nothing: it is written again when the same settings are given",
        }.get(kind, "nothing but tables and page, from the stored rows")

    def __str__(self) -> str:
        return f"{self.name} {self.what}"


def make_manifest(path: Path, files: Iterable[Path]) -> dict[str, Any]:
    """What a complete run consists of: every file with its size and hash, and the settings.

    Responses, which may be tens of gigabytes and can be recorded again, are listed with their size
    only.

    Args:
        path: The run's folder.
        files: Its files.
    """
    listed = {}
    for file in sorted(files):
        name = file.relative_to(path).as_posix()
        entry: dict[str, Any] = {"bytes": file.stat().st_size}
        if not name.startswith("responses/"):
            entry["sha256"] = sha256_of(file)
        if name.startswith("rows/") and file.suffix == ".parquet":
            entry["rows"] = n_rows(file)
        listed[name] = entry
    return {
        "format": FORMAT,
        "files": listed,
        "rows": sum(entry.get("rows", 0) for entry in listed.values()),
        "config": (path / CONFIG).read_text("utf-8"),
    }


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest of a run, None where it is not whole.

    Args:
        path: The run's folder.
    """
    try:
        manifest = read_json(path / MANIFEST)
    except RunError:
        return None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        return None
    files, rows = manifest.get("files"), manifest.get("rows")
    listed = isinstance(files, dict) and all(_is_entry(entry) for entry in files.values())
    return manifest if listed and type(rows) is int else None


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and type(entry.get("bytes")) is int


def find_damage(path: Path, *, quick: bool = False) -> list[Damage]:
    """What is damaged in a run's folder; empty when all is well.

    Args:
        path: The folder.
        quick: Only what is missing or has another size, where there is a manifest.
    """
    if not (path / MANIFEST).exists():
        return [] if quick else list(_unreadable(path))
    manifest = read_manifest(path)
    if manifest is None:
        return [Damage(MANIFEST, "cannot be read"), *([] if quick else _unreadable(path))]
    found = [_compare(path, name, entry, quick) for name, entry in manifest["files"].items()]
    damaged = [each for each in found if each is not None]
    named = {each.name for each in damaged}
    return damaged + ([] if quick else [d for d in _unreadable(path) if d.name not in named])


def _compare(path: Path, name: str, entry: Mapping[str, Any], quick: bool) -> Damage | None:
    file = path / name
    if not file.is_file():
        return Damage(name, "is missing")
    if name == REPORT:  # may be drawn anew from what is stored
        return None
    if file.stat().st_size != entry["bytes"]:
        return Damage(name, "has changed")
    known = entry.get("sha256")
    changed = not quick and known is not None and sha256_of(file) != known
    return Damage(name, "has changed") if changed else None


def _unreadable(path: Path) -> Iterator[Damage]:
    """Files that show themselves damaged."""
    for file in sorted(files_in(path)):
        name = file.relative_to(path).as_posix()
        if name != MANIFEST and not _is_readable(file, name) and file.exists():
            yield Damage(name, "cannot be read")


def _is_readable(file: Path, name: str) -> bool:
    if name.startswith("responses/"):
        return file.name != DONE or not damaged_blocks(file.parent)
    if name.startswith("rows/"):
        return is_whole(file)
    return file.suffix != ".json" or _is_json(file)


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return True


def is_untouched(path: Path) -> bool:
    """Whether nothing was computed in a run's folder, and nobody computes anything there."""
    if (path / MANIFEST).exists() or Claims(path / CLAIMS).living():
        return False
    return not any(_is_computed(file.relative_to(path)) for file in files_in(path))


def _is_computed(name: PurePath) -> bool:
    kind, *below = name.parts
    if kind == "responses":
        return name.name == DONE
    return bool(below) and kind in _COMPUTED


def mend(path: Path) -> list[Damage]:
    """Delete what is damaged, and what killed sittings left unfinished; what was damaged.

    The configuration stays: whoever resumes compares it with the settings given. What is
    unfinished stays while other processes compute, which may be writing it.
    """
    claims = Claims(path / CLAIMS)
    if not claims.living():
        tidy(path)
    claims.clear()
    damaged = find_damage(path)
    for each in damaged:
        if each.name != CONFIG:
            (path / each.name).unlink(missing_ok=True)
        if each.name.startswith("responses/"):
            shutil.rmtree((path / each.name).parent, ignore_errors=True)
    (path / MANIFEST).unlink(missing_ok=True)
    return damaged


def tidy(path: Path) -> None:
    """Delete what killed writes and recordings left in a run's folder."""
    sweep(path)
    forget_unfinished((path / "responses").glob("*"))
