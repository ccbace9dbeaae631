"""What runs in a worker process: a model loaded once, and items computed with it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, is_dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from broca.engines.bounds import load_bounded
from broca.engines.memory import BatchLimit
from broca.engines.worker_log import WorkerLog
from broca.errors import BrocaError


@dataclass(frozen=True)
class Outcome:
    """What a worker gives back.

    Attributes:
        result: Of the item, if it was computed.
        error: A mistake that another worker would find as well.
        said: What a person is to be told, such as that memory ran out.
    """

    result: Any = None
    error: BrocaError | None = None
    said: tuple[str, ...] = ()


def without_model(function: Any) -> Any:
    """A function that travels without its model, which every worker has."""
    given: Any = function
    return replace(given, model=None) if is_dataclass(function) and _has_model(function) else given


def _has_model(function: Any) -> bool:
    return hasattr(function, "model")


def versions_of(packages: Sequence[str]) -> dict[str, str]:
    """Versions of packages in this process."""
    return {name: _version(name) for name in packages}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


class Worker:
    """One worker.

    Args:
        load: Gives the model. It may have an attribute `on_gpus`: whether that is on GPUs.
        threads: Threads it computes with.
        max_memory: Bytes at most, None for no limit; see :mod:`broca.engines.bounds`.
        log: File of its log, None for none.
    """

    def __init__(
        self,
        load: Callable[[], Any],
        threads: int,
        max_memory: int | None = None,
        log: str | None = None,
    ) -> None:
        import torch

        self._log = WorkerLog(None if log is None else Path(log)).write
        self._limit = BatchLimit(say=self._say)
        self._said: list[str] = []
        self._failure: BrocaError | None = None
        torch.set_num_threads(threads)
        self._log("loading the model")
        try:
            gpus = getattr(load, "on_gpus", None)
            self._model, _ = load_bounded(load, max_memory, gpus=gpus)
        except BrocaError as error:
            self._failure = error
        self._log("ready" if self._failure is None else f"cannot load: {self._failure}")

    def ready(self, packages: Sequence[str] = ()) -> Outcome:
        """What it computes with, once its model is loaded: device, threads, versions of packages.

        Args:
            packages: Which packages' versions.
        """
        import torch

        if self._failure is not None:
            return Outcome(error=self._failure)
        device = str(self._model.device)
        about = {
            "device": device,
            "device_name": getattr(self._model, "device_name", device),
            "threads": torch.get_num_threads(),
            "versions": versions_of(packages),
        }
        return Outcome(about)

    def compute(self, function: Any, name: str, item: Any) -> Outcome:
        """One item; mistakes are given back, so that they are told apart from a lost worker."""
        start = time.monotonic()
        if _has_model(function):
            function = replace(function, model=self._model)
        try:
            result = self._limit.compute(function, item)
        except BrocaError as error:
            self._log(f"{name} refused: {error}")
            return Outcome(error=error, said=self._told())
        except Exception:
            self._log(f"{name} failed: {traceback.format_exc()}")
            raise
        self._log(f"{name} {time.monotonic() - start:.1f} s")
        return Outcome(result, said=self._told())

    def _say(self, words: str) -> None:
        """Log what the driver is told with the next outcome."""
        self._log(words)
        self._said.append(words)

    def _told(self) -> tuple[str, ...]:
        said, self._said = tuple(self._said), []
        return said
