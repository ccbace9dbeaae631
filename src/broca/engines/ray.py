"""Compute on the workers of a Ray cluster: here, on one machine or on many.

1. Every worker is an actor that loads the model once, by name or from the object store.
2. Items go out longest first, at most two at a time to each worker, so that none waits for the
   driver; results come as they are there, and the driver alone writes.
3. A worker that dies is replaced and what it had is computed again. An item under which three
   workers died is named, and the run stops with what it has.

Ray Core, not Ray Data: items are few, heavy, named and stored by the run itself.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import socket
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from broca.engines.engine import Engine, Work
from broca.engines.settings import EngineSettings
from broca.engines.worker import Worker, without_model
from broca.errors import EngineError
from broca.progress import progress_bar, tell

IN_FLIGHT = 2  # items that a worker has, the one it computes and the next
MAX_DEATHS = 3  # workers that may die under an item
KNOCK_SECONDS = 10.0  # for a cluster's address to answer
PATIENCE_SECONDS = 300.0  # without a single living worker


def _ray() -> Any:
    """Ray itself, an extra that need not be there."""
    return importlib.import_module("ray")


def has_gpus() -> bool:
    """Whether this process is a worker that has GPUs of its own."""
    ray = _ray()

    return bool(ray.get_runtime_context().get_accelerator_ids().get("GPU"))


@dataclass
class _Hired:
    """A worker as the driver sees it.

    Attributes:
        actor: Handle of the actor.
        number: Of its log.
        items: Places of the items it has, the one it computes first.
    """

    actor: Any
    number: int
    items: deque[int] = field(default_factory=deque)


class RayEngine(Engine):
    """An engine on Ray.

    Args:
        model: What a worker loads: a function that gives the model, or a loaded model, whose
            weights then travel once through the object store.
        settings: Workers, GPUs, address.
        logs: Folder for the workers' logs.

    Raises:
        EngineError: Ray is not installed, the cluster cannot be reached, or has too little.
    """

    def __init__(
        self, model: Any, settings: EngineSettings | None = None, logs: Path | None = None
    ) -> None:
        if importlib.util.find_spec("ray") is None:
            raise EngineError(
                "The engine 'ray' needs the package ray", mend="Run: pip install 'broca[ray]'"
            )
        self.settings = settings or EngineSettings(kind="ray")
        self._logs = logs
        self._own = _connect(self.settings)
        self._resources = self._wanted()
        self._load = model if callable(model) else _FromStore.put(model)
        self._workers: list[_Hired] = []
        self._starting: dict[Any, _Hired] = {}
        self._hired = 0
        self._last_loss = ""
        self.deaths = 0

    def _compute(self, work: Work) -> Iterator[tuple[Any, Any]]:
        """Results come in any order."""
        if not work.items:
            return
        self._hire(min(self._n_workers, len(work.items)))
        with progress_bar(work.description, sum(work.weights)) as advance:
            for place, result in self._schedule(work):
                yield work.items[place], result
                advance(work.weights[place], self._note())

    def close(self) -> None:
        """Let the workers go, and the cluster if it was started here."""
        ray = _ray()

        for hired in [*self._workers, *self._starting.values()]:
            ray.kill(hired.actor)
        self._workers, self._starting = [], {}
        if self._own:
            ray.shutdown()

    def __enter__(self) -> RayEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- workers -----------------------------------------------------------------------------

    @property
    def n_workers(self) -> int:
        """Workers that are to be alive."""
        return self._n_workers

    def _wanted(self) -> dict[str, float]:
        """What each worker takes; also says how many there are to be.

        Raises:
            EngineError: The cluster has less than one worker, or all of them, need.
        """
        ray = _ray()

        there = ray.cluster_resources()
        gpus = there.get("GPU", 0.0)
        per_worker = self.settings.gpus_per_worker
        if per_worker is None:
            per_worker = 1.0 if gpus else 0.0
        cores = float(self.settings.threads) if not per_worker else 1.0
        most = int(gpus // per_worker) if per_worker else int(there.get("CPU", 1.0) // cores)
        self._n_workers = self.settings.workers or max(1, most)
        if per_worker and self._n_workers * per_worker > gpus:
            raise EngineError(
                f"{self._n_workers} workers of {per_worker:g} GPUs were asked for, "
                f"the cluster has {gpus:g}",
                mend="Ask for fewer --workers or --gpus-per-worker",
            )
        if self._n_workers > most:
            raise EngineError(
                f"{self._n_workers} workers of {cores:g} cores were asked for, "
                f"the cluster has {there.get('CPU', 0.0):g} cores",
                mend="Ask for fewer --workers or threads",
            )
        return {"num_cpus": cores, "num_gpus": per_worker}

    def _hire(self, n: int) -> None:
        """Start workers until n are alive or starting."""
        ray = _ray()

        made = ray.remote(Worker)
        while len(self._workers) + len(self._starting) < n:
            log = self._logs and str(self._logs / f"worker-{self._hired}.log")
            actor = made.options(max_restarts=0, **self._resources).remote(
                self._load, self.settings.threads, self.settings.memory_bytes, log
            )
            hired = _Hired(actor, self._hired)
            self._hired += 1
            self._starting[actor.ready.remote()] = hired

    def _note(self) -> str:
        alive = f"{len(self._workers)} of {self._n_workers} workers"
        return f"{alive}, {self.deaths} lost" if self.deaths else alive

    # -- items -------------------------------------------------------------------------------

    def _schedule(self, work: Work) -> Iterator[tuple[int, Any]]:
        ray = _ray()

        for hired in self._workers:  # of an earlier call that ended by a mistake
            hired.items.clear()
        shared = ray.put(without_model(work.function))
        order = sorted(range(len(work.items)), key=lambda place: -work.weights[place])
        waiting = deque(order)
        flying: dict[Any, tuple[int, _Hired]] = {}
        killed: Counter[int] = Counter()
        idle = 0.0
        while waiting or flying:
            self._send(shared, work, waiting, flying)
            ready, _ = ray.wait([*flying, *self._starting], num_returns=1, timeout=1.0)
            idle = 0.0 if ready or self._workers else idle + 1.0
            if idle > PATIENCE_SECONDS:
                raise EngineError(
                    "No worker could be started",
                    mend="Look at the cluster with `ray status`: it may lack cores, GPUs or memory",
                )
            for reference in ready:
                if reference in self._starting:
                    self._welcome(reference)
                    continue
                if reference not in flying:  # went down with its worker just now
                    continue
                place, hired = flying.pop(reference)
                outcome = self._outcome(reference)
                if outcome is None:
                    self._bury(hired, work.names, waiting, flying, killed)
                    continue
                hired.items.remove(place)
                if outcome.error is not None:
                    raise outcome.error
                yield place, outcome.result

    def _send(
        self,
        shared: Any,
        work: Work,
        waiting: deque[int],
        flying: dict[Any, tuple[int, _Hired]],
    ) -> None:
        """Give every worker one item, then every worker its next."""
        for full in range(1, IN_FLIGHT + 1):
            for hired in self._workers:
                if waiting and len(hired.items) < full:
                    place = waiting.popleft()
                    hired.items.append(place)
                    name, item = work.names[place], work.items[place]
                    sent = hired.actor.compute.remote(shared, name, item)
                    flying[sent] = (place, hired)

    def _welcome(self, reference: Any) -> None:
        """A worker is ready, or says why it cannot be."""
        hired = self._starting.pop(reference)
        outcome = self._outcome(reference)
        if outcome is None:
            self.deaths += 1
            if self.deaths >= MAX_DEATHS and not self._workers:
                raise EngineError(
                    f"Workers die while they load the model: {self._last_loss}",
                    mend="It may not fit their memory; their logs are in the run folder",
                )
            self._hire(len(self._workers) + len(self._starting) + 1)
        elif outcome.error is not None:
            raise outcome.error
        else:
            self._workers.append(hired)

    def _outcome(self, reference: Any) -> Any:
        """What a worker gave back, None if it is lost.

        Raises:
            EngineError: It failed in a way that another one would fail as well.
        """
        ray, errors = _ray(), importlib.import_module("ray.exceptions")
        try:
            return ray.get(reference)
        except errors.RayTaskError as error:
            raise EngineError(
                f"A worker failed: {type(error.cause).__name__}: {_last_line(error.cause)}",
                mend="The whole error is in the worker's log; finished work is kept",
            ) from error
        except errors.RayError as error:
            self._last_loss = _last_line(error)
            return None

    def _bury(
        self,
        dead: _Hired,
        names: Sequence[str],
        waiting: deque[int],
        flying: dict[Any, tuple[int, _Hired]],
        killed: Counter[int],
    ) -> None:
        """Replace a worker and put what it had at the front of the queue.

        Raises:
            EngineError: The item it computed has killed too many.
        """
        if dead not in self._workers:
            return
        self._workers.remove(dead)
        self.deaths += 1
        culprit = dead.items[0]
        killed[culprit] += 1
        for reference in [ref for ref, (_, hired) in flying.items() if hired is dead]:
            del flying[reference]
        waiting.extendleft(reversed(dead.items))
        if killed[culprit] >= MAX_DEATHS:
            raise EngineError(
                f"{MAX_DEATHS} workers died one after the other under the same piece of work",
                names[culprit],
                "It may not fit their memory: lower batch_size; finished work is kept",
            )
        tell(f"Worker {dead.number} was lost; its work is computed again.")
        self._hire(len(self._workers) + len(self._starting) + 1)


@dataclass(frozen=True)
class _FromStore:
    """A loaded model whose weights lie in the object store."""

    references: tuple[Any, ...]

    @classmethod
    def put(cls, model: Any) -> _FromStore:
        ray = _ray()

        return cls((ray.put(model),))

    def __call__(self) -> Any:
        ray = _ray()

        return ray.get(self.references[0])


@contextmanager
def _own_path() -> Iterator[None]:
    """Let processes that start here find the modules that this one finds."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _connect(settings: EngineSettings) -> bool:
    """Join the cluster, or start one here; whether it was started here.

    Raises:
        EngineError: The cluster cannot be reached, or Ray does not start.
    """
    ray = _ray()

    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if settings.address is None:
        cores = max(os.cpu_count() or 1, (settings.workers or 1) * settings.threads)
        try:
            with _own_path():
                ray.init(num_cpus=cores, include_dashboard=False, **options)
        except Exception as error:  # Ray's own are plain Exceptions
            raise EngineError(
                f"Ray did not start on this machine: {_last_line(error)}",
                mend="Try again when the machine is less busy, or use --engine local or --join",
            ) from error
        return True
    try:
        _knock(settings.address)
        ray.init(address=settings.address, **options)
    except (ValueError, RuntimeError, OSError, SystemExit) as error:  # Ray leaves where it waits
        raise EngineError(
            "This Ray cluster cannot be reached",
            settings.address,
            "Start one with `ray start --head`, or leave the address out for one on this machine",
        ) from error
    return True


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _knock(address: str) -> None:
    """Open a connection to an address and close it: Ray itself tries for minutes.

    Raises:
        OSError: Nobody answers.
        ValueError: The address names no port.
    """
    if address in ("auto", "local"):
        return
    place = urlsplit(address if "://" in address else f"ray://{address}")
    if place.hostname is None or place.port is None:
        raise ValueError(f"{address} is no host:port")
    socket.create_connection((place.hostname, place.port), timeout=KNOCK_SECONDS).close()
