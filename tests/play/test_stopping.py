"""A server that stops: who waits hears of it, nothing is kept for ever, the terminal is quiet."""

from __future__ import annotations

import asyncio
import gc
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import httpx
import pytest

from broca.errors import PlayError
from broca.play import Material, Serving
from broca.play.jobs import Event, Job, Jobs
from broca.play.routes import Listening, _events
from play.plain_play import ASKED, wait_for

Found = TypeVar("Found")
SECONDS = 120  # within which whatever is waited for here must come


def apart(work: Coroutine[Any, Any, Found]) -> Found:
    """In a thread of its own: a browser's driver may have a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result(SECONDS)


def test_whoever_waits_or_runs_hears_that_the_queue_has_ended():
    """Those that waited once heard nothing, and what came after waited for ever."""
    jobs, began, go = Jobs(n_threads=1), threading.Event(), threading.Event()
    heard: dict[str, queue.Queue[Event]] = {name: queue.Queue() for name in "ab"}

    def hold(job: Job) -> None:
        began.set()
        assert go.wait(SECONDS)
        job.check()

    first = jobs.submit(hold, heard["a"].put)
    assert began.wait(SECONDS)
    second = jobs.submit(lambda job: 7, heard["b"].put)
    assert heard["b"].get(timeout=SECONDS) == {"kind": "queued", "ahead": 1}
    jobs.end()
    assert [heard[name].get(timeout=SECONDS) for name in "ab"] == [{"kind": "stopped"}] * 2
    assert first.stopped
    assert second.stopped
    with pytest.raises(PlayError, match="the server is stopping"):
        jobs.submit(lambda job: 7, heard["b"].put)
    go.set()
    jobs.close()
    jobs.close()
    assert jobs.length == 0


def test_a_cancellation_that_comes_with_an_event_is_none_less():
    """`asyncio.wait_for` hands on the event and goes on."""

    async def cancelled() -> bool:
        heard: asyncio.Queue[Event] = asyncio.Queue()

        async def read() -> None:
            async for _ in _events(heard):
                pass

        reader = asyncio.create_task(read())
        await asyncio.sleep(0.01)
        heard.put_nowait({"kind": "progress"})
        reader.cancel()
        done, _ = await asyncio.wait([reader], timeout=1)
        reader.cancel()
        return bool(done)

    assert apart(cancelled())


@pytest.fixture
def held_jobs() -> Iterator[tuple[Jobs, Job]]:
    """A queue with a job that runs until it is left."""
    jobs = Jobs(n_threads=1)

    def run(job: Job) -> None:
        while True:
            job.check()
            threading.Event().wait(0.01)

    yield jobs, jobs.submit(run, lambda event: None)
    jobs.close()


@pytest.mark.parametrize("kind", ["http.response.start", "http.response.body"])
def test_a_job_is_left_by_who_does_not_read_and_goes(held_jobs: tuple[Jobs, Job], kind: str):
    """Events that are not read were only left when memory was tidied up."""
    jobs, job = held_jobs

    async def served() -> None:
        heard: asyncio.Queue[Event] = asyncio.Queue()
        heard.put_nowait({"kind": "progress"})
        full = asyncio.Event()

        async def send(message) -> None:
            if message["type"] == kind:
                full.set()
                await asyncio.Event().wait()

        async def receive():
            await full.wait()
            return {"type": "http.disconnect"}

        response = Listening(jobs, job, heard)
        async with asyncio.timeout(SECONDS):
            await response({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send)
        assert job.stopped

    gc.disable()
    try:
        apart(served())
    finally:
        gc.enable()
    wait_for(lambda: jobs.length == 0)


def test_a_server_that_is_closed_at_once_leaves_no_thread(model):
    def working() -> int:
        return sum(thread.name == "broca-model" for thread in threading.enumerate())

    before = working()
    for _ in range(3):
        with Serving(Material(model)):
            pass
    assert working() == before


def test_pages_hear_of_a_server_that_stops_while_they_wait(material: Material):
    ended: list[str] = []
    free, began = threading.Event(), threading.Event()
    serving = Serving(material)
    serving.__enter__()
    closing = threading.Thread(target=serving.__exit__)
    serving.jobs.submit(lambda job: began.set() or free.wait(SECONDS), lambda event: None)
    assert began.wait(SECONDS)
    try:
        with (
            httpx.Client(base_url=serving.url, timeout=SECONDS, trust_env=False) as client,
            client.stream("POST", "/api/find", json=ASKED) as response,
        ):
            wait_for(lambda: serving.jobs.length == 2)
            closing.start()
            ended += [line for line in response.iter_lines() if line.startswith("event")]
        assert ended[-1] == "event: stopped"
    finally:
        free.set()
        if not closing.ident:
            closing.start()
        closing.join(SECONDS)
    assert not closing.is_alive()


@pytest.mark.skipif(os.name == "nt", reason="it is interrupted by a signal")
@pytest.mark.parametrize("searching", [False, True])
def test_an_interrupt_is_quiet(searching: bool):
    """With a page at a search it told of a mistake of its own; at once, Python broke off."""
    words = [sys.executable, "-m", "broca", "play", "--port", "0", "--facts", "none"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True) as running:
        assert running.stdout is not None
        try:
            url = running.stdout.readline().split()[-1]
            if searching:
                assert interrupted_search(url, running)[-1] == "event: stopped"
            else:
                running.send_signal(signal.SIGINT)
            _, told = running.communicate(timeout=SECONDS)
        finally:
            running.kill()
    assert running.returncode in (0, 130)  # 0 below a shell that has interrupts ignored
    assert "Traceback" not in told
    assert "ERROR" not in told


def interrupted_search(url: str, running: subprocess.Popen) -> list[str]:
    """The events of a search during which its server is interrupted."""
    asked = {**ASKED, "method": "hard-concrete"}
    with (
        httpx.Client(base_url=url, timeout=SECONDS, trust_env=False) as client,
        client.stream("POST", "/api/find", json=asked) as response,
    ):
        events = (line for line in response.iter_lines() if line.startswith("event"))
        first = next(events)
        running.send_signal(signal.SIGINT)
        return [first, *events]
