"""What a run was computed with, held against what it is to go on with."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from broca.errors import RunError
from broca.progress import step, tell
from broca.store.lock import FolderBusyError, FolderLock

ENVIRONMENT = "environment.json"
TOLD_SECONDS = 1800.0  # that is waited for it: a large model loads
LOOK_SECONDS = 0.2  # between two looks

DETERMINING = ("broca", "torch", "transformers")
"""Packages whose version may change rows."""

ROUNDING = ("device_name", "threads")
"""What may change figures by rounding; threads on a processor."""


def refuse_weights(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with other weights.

    Raises:
        RunError: The fingerprints differ.
    """
    if before.get("fingerprint") != now.get("fingerprint"):
        raise RunError(
            "this run was begun with other weights",
            where=str(path),
            mend="Use the model it was begun with, or choose another folder with --out",
        )


def refuse_versions(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to mix rows of several versions of packages.

    Raises:
        RunError: Naming the packages that differ.
    """
    known, own = before.get("versions", {}), now.get("versions", {})
    other = [
        f"{name} {known[name]}, now {own.get(name)}"
        for name in DETERMINING
        if name in known and known[name] != own.get(name)
    ]
    if other:
        raise RunError(
            f"rows of this run were computed by other versions: {'; '.join(other)}",
            where=str(path),
            mend="Go on with both by --accept, or choose another folder with --out",
        )


def tell_of_rounding(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Say that this process computes elsewhere, or with other threads, than the run was begun."""
    other = [
        f"{name.replace('_', ' ')} {before[name]}, here {now[name]}"
        for name in (ROUNDING if now.get("device") == "cpu" else ROUNDING[:1])
        if name in before and name in now and before[name] != now[name]
    ]
    if other:
        tell(
            f"The run is computed with {'; '.join(other)}: figures may differ by rounding. "
            f"Both will stand in {ENVIRONMENT}."
        )


def with_earlier(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> dict[str, Any]:
    """The environment of a sitting, with those of earlier ones that differ from it."""
    known = dict(before or {})
    earlier = known.pop("earlier", [])
    if known and known != now and known not in earlier:
        earlier = [*earlier, known]
    return {**now, "earlier": earlier} if earlier else dict(now)


def await_environment(path: Path) -> FolderLock | None:
    """Wait until the process that began a run has written what it computes with.

    Returns:
        None; or the folder's lock, if that process is gone and has written nothing.

    Raises:
        RunError: It is there, and writes nothing for half an hour.
    """
    if (path / ENVIRONMENT).exists():
        return None
    with step("Waiting for the process that began the run"):
        end = time.monotonic() + TOLD_SECONDS
        while time.monotonic() < end:
            lock = _free(path)
            if (path / ENVIRONMENT).exists():
                if lock is not None:
                    lock.release()
                return None
            if lock is not None:
                return lock
            time.sleep(LOOK_SECONDS)
    raise RunError(
        f"the process that began this run has not told in {TOLD_SECONDS / 60:.0f} minutes which "
        "weights and versions it computes with",
        where=str(path),
        mend="See whether it still loads its model, then repeat this command",
    )


def _free(path: Path) -> FolderLock | None:
    """The lock of a folder, None if another process has it."""
    try:
        return FolderLock.acquire(path)
    except FolderBusyError:
        return None
