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
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broca.engines.cluster import connect, last_line, places_for, ray_itself
from broca.engines.engine import Engine, Work
from broca.engines.settings import EngineSettings
from broca.engines.worker import Worker, without_model
from broca.engines.worker_log import WorkerLog
from broca.errors import EngineError
from broca.progress import Advance, progress_bar, tell

IN_FLIGHT = 2  # items that a worker has, the one it computes and the next
MAX_DEATHS = 3  # workers that may die under an item
PATIENCE_SECONDS = 300.0  # without a single living worker


@dataclass
class _Hired:
    """A worker as the driver sees it.

    Attributes:
        actor: Handle of the actor.
        number: How many were hired before it.
        log: Its log, None for none.
        items: Places of the items it has, the one it computes first.
    """

    actor: Any
    number: int
    log: Path | None = None
    items: deque[int] = field(default_factory=deque)


@dataclass
class _Way:
    """Where the items of one call are.

    Attributes:
        waiting: Places of those that no worker has, in the order in which they go out.
        flying: What a worker will give back -> place, and who has it.
        killed: Place -> workers that died under it.
    """

    waiting: deque[int]
    flying: dict[Any, tuple[int, _Hired]] = field(default_factory=dict)
    killed: Counter[int] = field(default_factory=Counter)


class RayEngine(Engine):
    """An engine on Ray.

    Args:
        model: What a worker loads: a function that gives the model, or a loaded model, whose
            weights then travel once through the object store.
        settings: Workers, GPUs, address.
        logs: Folder for the workers' logs.
        versions: Of packages, that workers are to have as well; None where any will do.
        accept_versions: Whether workers with others compute beside those.

    Attributes:
        deaths: Workers that were lost.
        met: What workers compute with, each once: device, threads, versions.

    Raises:
        EngineError: Ray is not installed, the cluster cannot be reached, or has too little.
    """

    def __init__(
        self,
        model: Any,
        settings: EngineSettings | None = None,
        logs: Path | None = None,
        *,
        versions: Mapping[str, str] | None = None,
        accept_versions: bool = False,
    ) -> None:
        self.settings = settings or EngineSettings(kind="ray")
        self._logs = logs
        self._versions = dict(versions or {})
        self._accept_versions = accept_versions
        self._own = connect(self.settings)
        try:
            self._resources = self._wanted()
        except EngineError:
            if self._own:
                ray_itself().shutdown()
            raise
        self._load = model if callable(model) else _FromStore.put(model)
        self._workers: list[_Hired] = []
        self._starting: dict[Any, _Hired] = {}
        self._hired = 0
        self._last_loss = ""
        self._failed_starts = 0  # one after the other
        self._said_short = False  # a worker's shortage of memory
        self.deaths = 0
        self.met: list[dict[str, Any]] = []

    def _compute(self, work: Work) -> Iterator[tuple[Any, Any]]:
        """Results come in any order."""
        if not work.items:
            return
        self._hire(self._n_workers)
        with progress_bar(work.description, sum(work.weights)) as advance:
            advance(0, self._note())
            for place, result in self._schedule(work, advance):
                yield work.items[place], result
                advance(work.weights[place], self._note())

    def close(self) -> None:
        """Let the workers go, and the cluster if it was started here."""
        ray = ray_itself()

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
        gpus = self.settings.gpus_per_worker
        if gpus is None:
            gpus = 1.0 if places_for(0.0, 1.0).gpus else 0.0
        cores = 1.0 if gpus else float(self.settings.threads)
        there = places_for(cores, gpus)
        n = self._n_workers = self.settings.workers or max(1, there.workers)
        if n * gpus > there.gpus:
            raise EngineError(
                f"The workers need {n * gpus:g} GPUs in all, the cluster has {there.gpus:g}",
                mend="Ask for fewer --workers or --gpus-per-worker",
            )
        if gpus > there.node_gpus:
            raise EngineError(
                f"A worker needs {gpus:g} GPUs of one node, none has more than {there.node_gpus:g}",
                mend="Ask for fewer --gpus-per-worker",
            )
        if n > there.workers:
            each = f"{cores:g} cores" + (f" and {gpus:g} GPUs" if gpus else "")
            raise EngineError(
                f"{n} workers need {each} each, the cluster has places for {there.workers}",
                mend="Ask for fewer --workers or threads",
            )
        return {"num_cpus": cores, "num_gpus": gpus}

    def _hire(self, n: int) -> None:
        """Start workers until n are alive or starting."""
        ray = ray_itself()

        made = ray.remote(Worker)
        while len(self._workers) + len(self._starting) < n:
            log = self._logs and self._logs / f"worker-{self._hired}.log"
            actor = made.options(max_restarts=0, **self._resources).remote(
                self._load, self.settings.threads, self.settings.memory_bytes, log and str(log)
            )
            hired = _Hired(actor, self._hired, log)
            self._hired += 1
            self._starting[actor.ready.remote(tuple(self._versions))] = hired

    def _note(self) -> str:
        """Workers that compute, of those that are wanted."""
        n = len(self._workers)
        alive = f"{n} of {self._n_workers} workers" if n else f"starting {self._n_workers} workers"
        return f"{alive}, {self.deaths} lost" if self.deaths else alive

    # -- items -------------------------------------------------------------------------------

    def _schedule(self, work: Work, advance: Advance) -> Iterator[tuple[int, Any]]:
        ray = ray_itself()

        for hired in self._workers:  # of an earlier call that ended by a mistake
            hired.items.clear()
        shared = ray.put(without_model(work.function))
        way = _Way(deque(sorted(range(len(work.items)), key=lambda n: -work.weights[n])))
        idle = 0.0
        while way.waiting or way.flying:
            self._send(shared, work, way)
            ready, _ = ray.wait([*way.flying, *self._starting], num_returns=1, timeout=1.0)
            idle = 0.0 if ready or self._workers else idle + 1.0
            if idle > PATIENCE_SECONDS:
                raise EngineError(
                    "No worker could be started",
                    mend="Look at the cluster with `ray status`: it may lack cores, GPUs or memory",
                )
            for reference in ready:
                if reference in self._starting:
                    self._welcome(reference)
                    advance(0, self._note())
                    continue
                place, hired = way.flying.pop(reference)
                outcome = self._outcome(reference)
                if outcome is None:
                    self._bury(hired, work, way)
                    advance(0, self._note())
                    continue
                hired.items.remove(place)
                self._pass_on(hired, outcome.said)
                if outcome.error is not None:
                    raise outcome.error
                yield place, outcome.result

    def _send(self, shared: Any, work: Work, way: _Way) -> None:
        """Give every worker one item, then every worker its next."""
        for full in range(1, IN_FLIGHT + 1):
            for hired in self._workers:
                if way.waiting and len(hired.items) < full:
                    place = way.waiting.popleft()
                    hired.items.append(place)
                    name, item = work.names[place], work.items[place]
                    sent = hired.actor.compute.remote(shared, name, item)
                    way.flying[sent] = (place, hired)

    def _welcome(self, reference: Any) -> None:
        """A worker is ready, or says why it cannot be.

        Raises:
            EngineError: It cannot load the model, or computes with other versions.
        """
        hired = self._starting.pop(reference)
        outcome = self._outcome(reference)
        if outcome is None:
            self._lose(hired)
            self._failed_starts += 1
            if self._failed_starts >= MAX_DEATHS:
                self._settle_for_fewer()
            self._hire(self._n_workers)
        elif outcome.error is not None:
            raise outcome.error
        else:
            self._failed_starts = 0
            self._workers.append(hired)
            self._meet(outcome.result)

    def _settle_for_fewer(self) -> None:
        """Hire no more than there are: those that come die before they are ready.

        Raises:
            EngineError: There is none.
        """
        reason = last_line(self._last_loss)
        if not self._workers:
            raise EngineError(
                f"Workers die while they load the model: {reason}",
                mend="It may not fit their memory; their logs are in the run folder",
            )
        self._n_workers = len(self._workers) + len(self._starting)
        self._failed_starts = 0
        n = len(self._workers)
        tell(
            f"{MAX_DEATHS} workers died while they loaded the model; going on with the "
            f"{n} there {'is' if n == 1 else 'are'}. {reason}"
        )

    def _meet(self, about: Mapping[str, Any]) -> None:
        """Keep what a worker computes with.

        Raises:
            EngineError: Its versions are others than the driver's, and that is not accepted.
        """
        if about not in self.met:
            self.met.append(dict(about))
        theirs = about["versions"]
        other = [f"{n} {theirs[n]}, here {v}" for n, v in self._versions.items() if theirs[n] != v]
        if other and not self._accept_versions:
            raise EngineError(
                f"A worker computes with other versions: {'; '.join(other)}",
                mend="Install the same on all nodes, or go on with both by --accept",
            )

    def _outcome(self, reference: Any) -> Any:
        """What a worker gave back, None if it is lost.

        Raises:
            EngineError: It failed in a way that another one would fail as well.
        """
        ray, errors = ray_itself(), importlib.import_module("ray.exceptions")
        try:
            return ray.get(reference)
        except errors.RayTaskError as error:
            kind, words = type(error.cause).__name__, last_line(error.cause)
            raise EngineError(
                f"A worker failed: {kind}: {words}",
                mend="The whole error is in the worker's log; finished work is kept",
            ) from error
        except errors.RayError as error:
            self._last_loss = str(error)
            return None

    def _bury(self, dead: _Hired, work: Work, way: _Way) -> None:
        """Replace a worker and put what it had at the front of the queue.

        Raises:
            EngineError: The item it computed has killed too many.
        """
        self._workers.remove(dead)
        self._lose(dead)
        culprit = dead.items[0]
        way.killed[culprit] += 1
        for reference in [ref for ref, (_, hired) in way.flying.items() if hired is dead]:
            del way.flying[reference]
        way.waiting.extendleft(reversed(dead.items))
        if way.killed[culprit] >= MAX_DEATHS:
            raise EngineError(
                f"{MAX_DEATHS} workers died one after the other under the same piece of work",
                work.names[culprit],
                "It may not fit their memory: lower batch_size; finished work is kept",
            )
        tell(f"Worker {dead.number} was lost; its work is computed again.")
        self._hire(self._n_workers)

    def _pass_on(self, hired: _Hired, said: Sequence[str]) -> None:
        """Tell what a worker has to say; of several that say it, the first is enough."""
        if said and not self._said_short:
            self._said_short = True
            tell(f"Worker {hired.number}: {' '.join(said)}")

    def _lose(self, dead: _Hired) -> None:
        """Count a worker that died; what Ray knows of it goes into its log."""
        self.deaths += 1
        WorkerLog(dead.log).write(f"lost: {' '.join(self._last_loss.split())}")


@dataclass(frozen=True)
class _FromStore:
    """A loaded model whose weights lie in the object store."""

    references: tuple[Any, ...]

    @classmethod
    def put(cls, model: Any) -> _FromStore:
        ray = ray_itself()

        return cls((ray.put(model),))

    def __call__(self) -> Any:
        ray = ray_itself()

        return ray.get(self.references[0])
