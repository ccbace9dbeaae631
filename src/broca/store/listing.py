"""Which runs there are."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from broca.store.files import read_json
from broca.store.folder import CONFIG, ENVIRONMENT, MANIFEST, SUMMARY, is_run


@dataclass(frozen=True)
class RunEntry:
    """One line of `broca ls`.

    Attributes:
        path: The run folder.
        study: What was asked, as the recipe names it.
        model: The model under study, as the recipe names it.
        finished: Whether the run is complete.
        rows: Number of rows, None while unfinished.
        seconds: How long it took, None if not stored.
        changed: When it was last written, seconds since 1970.
    """

    path: Path
    study: str
    model: str
    finished: bool
    rows: int | None
    seconds: float | None
    changed: float


def list_runs(root: str | Path, depth: int = 4) -> list[RunEntry]:
    """The runs in `root` and at most `depth` folders below, newest first."""
    entries = [_entry(path) for path in _run_folders(Path(root), depth)]
    return sorted(entries, key=lambda entry: (-entry.changed, str(entry.path)))


def _run_folders(folder: Path, depth: int) -> Iterator[Path]:
    if is_run(folder):
        yield folder
    elif depth > 0 and folder.is_dir():
        for child in sorted(folder.iterdir()):
            if child.is_dir() and not child.is_symlink() and not child.name.startswith("."):
                yield from _run_folders(child, depth - 1)


def _entry(path: Path) -> RunEntry:
    config = tomllib.loads((path / CONFIG).read_text("utf-8"))
    finished = (path / MANIFEST).exists()
    summary = read_json(path / SUMMARY) if (path / SUMMARY).exists() else {}
    last = max(file.stat().st_mtime for file in path.iterdir())
    study = config.get("study") or config.get("studies") or config.get("name") or ""
    return RunEntry(
        path=path,
        study=", ".join(study) if isinstance(study, list) else str(study),
        model=str(config.get("model") or _model_of(path)),
        finished=finished,
        rows=read_json(path / MANIFEST)["rows"] if finished else None,
        seconds=summary.get("seconds"),
        changed=last,
    )


def _model_of(path: Path) -> str:
    known = (path / ENVIRONMENT).exists()
    return str(read_json(path / ENVIRONMENT).get("model", "")) if known else ""
