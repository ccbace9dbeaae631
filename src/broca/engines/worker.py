"""What runs in a worker process: a model loaded once, and items computed with it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

from broca.engines.memory import BatchLimit, limit_memory
from broca.engines.worker_log import WorkerLog
from broca.errors import BrocaError


@dataclass(frozen=True)
class Outcome:
    """What a worker gives back.

    Attributes:
        result: Of the item, if it was computed.
        error: A mistake that another worker would find as well.
    """

    result: Any = None
    error: BrocaError | None = None


def without_model(function: Any) -> Any:
    """A function that travels without its model, which every worker has."""
    given: Any = function
    return replace(given, model=None) if is_dataclass(function) and _has_model(function) else given


def _has_model(function: Any) -> bool:
    return hasattr(function, "model")


class Worker:
    """One worker.

    Args:
        load: Gives the model.
        threads: Threads it computes with.
        max_memory: Bytes at most, None for no limit.
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
        self._limit = BatchLimit()
        self._failure: BrocaError | None = None
        torch.set_num_threads(threads)
        self._log("loading the model")
        try:
            self._model = load()
            if max_memory is not None:
                limit_memory(max_memory)
        except BrocaError as error:
            self._failure = error
        self._log("ready" if self._failure is None else f"cannot load: {self._failure}")

    def ready(self) -> Outcome:
        """Where its model is, once it is loaded."""
        if self._failure is not None:
            return Outcome(error=self._failure)
        return Outcome(str(self._model.device))

    def compute(self, function: Any, name: str, item: Any) -> Outcome:
        """One item; mistakes are given back, so that they are told apart from a lost worker."""
        start = time.monotonic()
        if _has_model(function):
            function = replace(function, model=self._model)
        try:
            result = self._limit.compute(function, item)
        except BrocaError as error:
            self._log(f"{name} refused: {error}")
            return Outcome(error=error)
        except Exception:
            self._log(f"{name} failed: {traceback.format_exc()}")
            raise
        self._log(f"{name} {time.monotonic() - start:.1f} s")
        return Outcome(result)
