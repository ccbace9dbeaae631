"""Where a run is computed, and how others see how far it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from broca.engines import Engine, RayEngine, SharedEngine, limit_memory
from broca.errors import RunError
from broca.model import LanguageModel
from broca.progress import Reached, watched
from broca.run.job import Job
from broca.store import PROGRESS, RunFolder

POLL_SECONDS = 0.5


@contextmanager
def engine_for(
    job: Job, folder: RunFolder, model: LanguageModel, given: Engine | None = None
) -> Iterator[Engine]:
    """The engine of a run: the one given, or the one its job names.

    Raises:
        EngineError: It cannot be started.
    """
    settings = job.engine
    if given is not None:
        yield given
    elif settings.kind == "ray":
        source: Any = job.model.load if model.name == job.model.model else model
        with RayEngine(source, settings, folder.logs_path) as engine:
            yield engine
    else:
        if settings.memory_bytes is not None:
            limit_memory(settings.memory_bytes)
        yield SharedEngine(folder.claims_path)


@contextmanager
def progress_stored(folder: RunFolder) -> Iterator[None]:
    """Keep in the folder how far the run is, for `broca ls --watch`."""

    def store(reached: Reached) -> None:
        folder.write_json(PROGRESS, {**asdict(reached), "at": time.time()})

    if folder.joined:
        yield
        return
    with watched(store):
        yield


def wait_until_finished(folder: RunFolder) -> bool:
    """Wait for the process that writes a run; False if it is gone and the run is not finished."""
    while not folder.finished:
        try:
            free = RunFolder.resume(folder.path, folder.config)
        except RunError:  # still being written, or just finished
            time.sleep(POLL_SECONDS)
        else:
            free.close()
            return False
    return True
