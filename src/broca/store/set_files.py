"""Neuron sets by name, wherever they stand: in a run, in a folder of sets, or one file."""

from __future__ import annotations

from pathlib import Path

from broca.store.damage import CONFIG
from broca.store.folder import RunFolder
from broca.store.names import name_of


def reads_as_run(path: Path) -> bool:
    """Whether a path is to be read as a run folder; else it holds neuron sets alone."""
    return (path / CONFIG).exists() or not (path.is_file() or any(path.glob("**/*.json")))


def set_files(path: Path) -> dict[str, Path]:
    """Neuron sets by name: of a run, of a folder that `find relations` wrote, or one file.

    Raises:
        RunError: `path` is none of these.
    """
    if reads_as_run(path):
        folder = RunFolder.open(path)
        return {name: folder.set_path(name) for name in folder.set_names()}
    if path.is_file():
        return {name_of(Path(path.name), ".json"): path}
    found = (file for file in path.rglob("*.json") if not file.name.startswith("."))
    return {name_of(file.relative_to(path), ".json"): file for file in sorted(found)}
