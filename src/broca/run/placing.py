"""Where a run is computed, and how others see how far it is."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from broca.engines import (
    Engine,
    RayEngine,
    SharedEngine,
    has_gpus,
    load_bounded,
    versions_of,
)
from broca.errors import ModelError
from broca.model import LanguageModel, outline_of
from broca.processes import this_process
from broca.progress import Reached, step, watched
from broca.run.clock import Clock
from broca.run.job import Job, ModelSettings
from broca.store import PROGRESS, RunFolder
from broca.store.environment import DETERMINING

POLL_SECONDS = 0.5


@contextmanager
def placed(
    job: Job,
    folder: RunFolder,
    model: LanguageModel | None = None,
    given: Engine | None = None,
    *,
    join: bool = False,
    accept_versions: bool = False,
) -> Iterator[tuple[LanguageModel, Engine]]:
    """The model of a run, and the engine that computes with it: those given, or the job's.

    Where workers compute that have loaded the model, this process takes its outline alone. Of
    processes that join, each has a log.

    Raises:
        ModelError: There is no such model.
        EngineError: The engine cannot be started, or the model does not fit into its memory.
    """
    settings = job.engine
    if given is not None:
        yield model or job.model.load(), given
    elif settings.kind == "ray":
        source: Any = model if model is not None else LoadingThere(job.model)
        logs = folder.logs_path.absolute()  # workers have working folders of their own
        options = {"versions": versions_of(DETERMINING), "accept_versions": accept_versions}
        with RayEngine(source, settings, logs, **options) as engine:
            yield model or _outlined(job, engine), engine
    else:
        own = folder.logs_path / f"{socket.gethostname()}-{os.getpid()}.log"
        engine = SharedEngine(folder.claims_path, log=own if join else None)
        load = job.model.load if model is None else lambda: model
        gpus = _on_gpus(job, model)
        loaded, lift = load_bounded(load, settings.memory_bytes, gpus=gpus)
        try:
            yield loaded, engine
        finally:
            lift()


@dataclass(frozen=True)
class LoadingThere:
    """Loads a model in a worker: on its GPUs, if it has any and the settings name no place."""

    settings: ModelSettings

    @property
    def on_gpus(self) -> bool:
        """Whether the model will be on GPUs."""
        return has_gpus() if self.settings.device_map is None else self.settings.on_gpus

    def __call__(self) -> LanguageModel:
        if self.settings.device_map is not None:
            return self.settings.load()
        if self.on_gpus:
            return replace(self.settings, device_map="auto").load()
        return self.settings.load(gpus=False)  # of this machine, but not of this worker


@dataclass(frozen=True)
class Outlining:
    """Gives the outline of a worker's model, None where it has none."""

    model: LanguageModel

    def __call__(self, _: object) -> LanguageModel | None:
        try:
            return outline_of(self.model)
        except ModelError:
            return None


def _on_gpus(job: Job, model: LanguageModel | None) -> bool:
    return job.model.on_gpus if model is None else model.device.type == "cuda"


def _outlined(job: Job, engine: Engine) -> LanguageModel:
    nobodys: Any = None  # every worker puts its own model there
    ((_, found),) = engine.map(Outlining(nobodys), [None], "Loading the model")
    return found or job.model.load()


@contextmanager
def progress_stored(folder: RunFolder, clock: Clock) -> Iterator[None]:
    """Keep in the folder how far the run is, for `broca ls --watch`, and the time it took."""

    def store(reached: Reached) -> None:
        if folder.joined:  # the process that began the run tells
            return
        folder.write_json(PROGRESS, {**asdict(reached), "by": this_process()})
        clock.store()

    with watched(store):
        yield


def wait_until_finished(folder: RunFolder) -> bool:
    """Wait for the process that writes a run; False if it is gone and the run is not finished."""
    with step("Waiting for the process that began the run to finish it"):
        while not folder.finished:
            if folder.is_abandoned():
                return False
            time.sleep(POLL_SECONDS)
    return True
