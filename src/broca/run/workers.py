"""What the workers of a cluster compute with, in the environment of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broca.engines import Engine, RayEngine
from broca.store import RunFolder
from broca.store.folder import ENVIRONMENT

WORKERS = "workers"


def with_workers(
    environment: Mapping[str, Any], folder: RunFolder, engine: Engine
) -> dict[str, Any]:
    """An environment with what workers compute with, each kind once; as it is without any.

    Those that earlier sittings have met stay.
    """
    if not isinstance(engine, RayEngine):
        return dict(environment)
    there = (folder.path / ENVIRONMENT).exists()
    known = folder.environment.get(WORKERS, []) if there else []
    met = [*known, *(about for about in engine.met if about not in known)]
    return {**environment, "threads": engine.settings.threads, WORKERS: met}


def note_workers(folder: RunFolder, engine: Engine) -> None:
    """Keep which workers came since the environment was written."""
    if isinstance(engine, RayEngine):
        folder.write_json(ENVIRONMENT, with_workers(folder.environment, folder, engine))
