"""The settings in a run's folder: whose run it is, and whether it is one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from broca.errors import RunError
from broca.reading import load_toml
from broca.store.damage import CONFIG, FORMAT, read_manifest
from broca.store.files import TEMPORARY_MARK
from broca.store.lock import FolderLock


def is_run(path: Path) -> bool:
    """Whether `path` is a run folder: finished or not, damaged or not."""
    return _stored_config(path) is not None or read_manifest(path) is not None


def _stored_config(path: Path) -> dict[str, Any] | None:
    """The configuration in a folder, None where there is none of a run or it cannot be read."""
    try:
        config = load_toml((path / CONFIG).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return config if config.get("format") == FORMAT else None


def begun_with(path: Path) -> dict[str, Any]:
    """The settings a run was begun with, whatever became of its configuration since."""
    manifest = read_manifest(path)
    text = None if manifest is None else manifest.get("config")
    if not isinstance(text, str):
        return read_config(path)
    try:
        config = load_toml(text)
    except (ValueError, RecursionError):
        return read_config(path)
    return {key: value for key, value in config.items() if key != "format"}


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a run's folder.

    Raises:
        RunError: It is no run folder, or they are damaged.
    """
    config = _stored_config(path)
    if config is None and is_run(path):
        raise RunError(
            f"the run's {CONFIG} is damaged",
            where=str(path),
            mend="Repeat the command it was begun with: it writes the settings again",
        )
    if config is None:
        raise RunError(
            "this is no run folder",
            where=str(path),
            mend=f"A run folder has a {CONFIG} that begins with: format = {FORMAT!r}",
        )
    del config["format"]
    return config


def refuse_other(path: Path) -> None:
    """Refuse a path that is a file, or a folder in which someone else keeps things."""
    try:
        names = [entry.name for entry in path.iterdir()] if path.exists() else []
    except OSError as error:
        raise RunError(
            f"this folder cannot be used: {error.strerror}",
            where=str(path),
            mend="Choose another folder with --out",
        ) from error
    others = [name for name in names if TEMPORARY_MARK not in name and name != FolderLock.NAME]
    if others:
        raise RunError(
            f"this folder holds something else ({sorted(others)[0]}, …)",
            where=str(path),
            mend="Choose an empty or new folder with --out",
        )


def refuse_differing(path: Path, stored: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse to go on with a run under other settings.

    Raises:
        RunError: With the first five that differ.
    """
    differing = differences(stored, given)
    if differing:
        raise RunError(
            f"the run in this folder has other settings: {'; '.join(differing[:5])}",
            where=str(path),
            mend="Repeat the command it was begun with, or choose another folder with --out",
        )


def differences(stored: Mapping[str, Any], given: Mapping[str, Any], at: str = "") -> list[str]:
    """What differs between two nested settings, one text per setting."""
    found = []
    for key in sorted(stored.keys() | given.keys()):
        old, new = stored.get(key), given.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{at}{key}.")
        elif old != new:
            found.append(f"{at}{key} was {old!r}, now {new!r}")
    return found
