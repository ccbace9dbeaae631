"""One model, one lock: what pages ask for waits in a queue, is told about and can be stopped.

A single thread owns the model. Work is a function that is given its :class:`Job`: it tells how far
it has come, and leaves by :class:`Stopped` where nobody waits for it any more. Whatever goes wrong
in it is told to who asked, and the thread lives on.

What is brief goes before what is long, and long work gives way to it between its own parts.
"""

from __future__ import annotations

import atexit
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any

import torch

from broca.errors import BrocaError, PlayError
from broca.play.state import refusal
from broca.progress import quiet, tell

TOLD_SECONDS = 0.1  # between two reports of one job
MOST_WAITING = 16
LAST_SECONDS = 10.0  # that the end of Python waits for what is being computed

Event = Mapping[str, Any]
"""`kind` (queued, progress, part, result, error, stopped) and what belongs to it; what comes after
one of the last three is of no concern."""


class Stopped(Exception):  # noqa: N818  # no error: somebody has left
    """The job is not wanted any more."""


@dataclass(eq=False)
class Job:
    """One piece of work.

    Attributes:
        work: Does it; what it returns is the result.
        hear: Told every event, from any thread.
        brief: Whether somebody waits for it at the keyboard.
        give_way: Has brief work that waits done first; tells how many seconds that took. To be
            called where the model is as it was loaded.
    """

    work: Callable[[Job], Any]
    hear: Callable[[Event], None]
    brief: bool = False
    give_way: Callable[[], float] = lambda: 0.0
    _ahead: int = 0
    _stopped: threading.Event = field(default_factory=threading.Event)
    _told: float = 0.0

    def stop(self) -> None:
        """Nobody waits for it any more."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Whether it is to end."""
        return self._stopped.is_set()

    def check(self) -> None:
        """Leave where it is to end.

        Raises:
            Stopped: It is.
        """
        if self.stopped:
            raise Stopped

    def place(self, ahead: int) -> None:
        """Tell how many are before it, if that is new."""
        if ahead != self._ahead:
            self._ahead = ahead
            self.hear({"kind": "queued", "ahead": ahead})

    def progress(self, what: str, done: int, total: int, seconds: float) -> None:
        """Tell how far it has come, with the time left at this rate; at most ten times a second.

        Raises:
            Stopped: It is to end.
        """
        self.check()
        now = time.monotonic()
        if now - self._told < TOLD_SECONDS and done < total:
            return
        self._told = now
        left = None if not done else seconds * (total - done) / done
        self.hear({"kind": "progress", "what": what, "done": done, "total": total, "left": left})

    def part(self, value: Any) -> None:
        """Hand on a part of the result.

        Raises:
            Stopped: It is to end.
        """
        self.check()
        self.hear({"kind": "part", "value": value})


class Jobs:
    """The queue, and the thread that works through it.

    Args:
        most: Jobs that may wait.
        n_threads: Threads that the model computes with; as torch has it by default.
        prepare: Done first, while nobody waits yet.
    """

    def __init__(
        self,
        most: int = MOST_WAITING,
        n_threads: int | None = None,
        prepare: Callable[[], object] = lambda: None,
    ) -> None:
        self.most = most
        self._n_threads = n_threads
        self._prepare = prepare
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._running: list[Job] = []  # each gives way to the next
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="broca-model", daemon=True)
        atexit.register(self._end_with_python)
        self._thread.start()

    @property
    def length(self) -> int:
        """Jobs that wait or run."""
        with self._changed:
            return len(self._waiting) + len(self._running)

    def submit(
        self, work: Callable[[Job], Any], hear: Callable[[Event], None], *, brief: bool = False
    ) -> Job:
        """Put a piece of work into the queue, what is brief before what is long.

        Raises:
            PlayError: The queue is full, or has ended.
        """
        with self._changed:
            if self._closed:
                raise PlayError("the server is stopping", mend="Start it again and reload")
            if len(self._waiting) >= self.most:
                raise PlayError(
                    f"{len(self._waiting)} requests wait already", mend="Try again in a moment"
                )
            job = Job(work, hear, brief, self._give_way)
            before = [one for one in self._waiting if one.brief or not brief]
            self._waiting.insert(len(before), job)
            self._tell_places()
            self._changed.notify()
        return job

    def leave(self, job: Job) -> None:
        """Stop a job, whether it waits or runs."""
        job.stop()
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                self._tell_places()

    def end(self) -> None:
        """Stop everything, and take nothing any more: whoever waits is told so at once."""
        with self._changed:
            self._closed = True
            left = [*self._running, *self._waiting]
            self._waiting.clear()
            self._changed.notify()
        for job in left:
            job.stop()
            job.hear({"kind": "stopped"})

    def close(self) -> None:
        """Stop everything, and wait until the thread has ended with what it is doing."""
        self.end()
        self._thread.join()
        atexit.unregister(self._end_with_python)

    def _end_with_python(self) -> None:
        """Python that ends while a model computes breaks off, with no word that helps."""
        self.end()
        self._thread.join(LAST_SECONDS)

    def _tell_places(self) -> None:
        running = len(self._running)
        for place, job in enumerate(self._waiting):
            job.place(place + (min(running, 1) if job.brief else running))

    def _work(self) -> None:
        if self._n_threads is not None:
            torch.set_num_threads(self._n_threads)
        _outcome(Job(lambda job: self._prepare(), lambda event: None))
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                job = self._begin()
            self._end(job)

    def _give_way(self) -> float:
        start = time.monotonic()
        while True:
            with self._changed:
                if not (self._waiting and self._waiting[0].brief):
                    return time.monotonic() - start
                job = self._begin()
            Context().run(self._end, job)  # whatever listens to the long work hears nothing of it

    def _begin(self) -> Job:
        """The next job, which runs now."""
        job = self._waiting.popleft()
        self._running.append(job)
        job.place(0)
        self._tell_places()
        return job

    def _end(self, job: Job) -> None:
        """Do a job that has begun."""
        outcome = _outcome(job)
        with self._changed:
            self._running.remove(job)
            self._tell_places()
        job.hear(outcome)


def _outcome(job: Job) -> Event:
    """Do the work; the event with which it ends."""
    try:
        job.check()
        with quiet():
            return {"kind": "result", "value": job.work(job)}
    except Stopped:
        return {"kind": "stopped"}
    except BrocaError as error:
        return {"kind": "error", "text": refusal(error)}
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # whatever a model does, the server lives on
        tell("".join(traceback.format_exception(error)))
        return {"kind": "error", "text": refusal(error)}
