"""Runs whose processes are killed at random, until as many kills as asked have hit one.

1. A run is begun. Whenever it has stored something new, and up to two seconds later, one of its
   processes is killed (`kill -9`); a driver or a process that joined is begun again.
2. A kill counts if its process was alive, and dead by that signal afterwards.
3. A run that ends is compared with an unbroken one, byte by byte. Where kills are left, another
   run is begun in another folder.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from engine_parts import identical

PATIENCE_SECONDS = 600  # without anything new
SECONDS_AFTER = 2  # at most, from something new to a kill
SHARE_OF_WORKERS = 0.7  # of the kills on Ray; the others are the driver's
_LEFT_OUT = {".claims", "logs"}


class Joining:
    """Processes that take part in small runs; when the block ends, however it ends, all do."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen] = []

    def start(self, kind: str, out: Path, *how: str, log: Path | None = None) -> subprocess.Popen:
        """Another one; `how` is "ray" for a driver."""
        script = str(Path(__file__).parent / "engine_parts.py")
        command = [sys.executable, script, kind, str(out), *how]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with open(log or os.devnull, "a", encoding="utf-8") as said:
            stderr = None if log is None else said
            self._started.append(subprocess.Popen(command, env=environment, stderr=stderr))
        return self._started[-1]

    def __enter__(self) -> Joining:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            process.kill()
            process.wait()


def wait_for_both(kind: str, out: Path, seconds: float = 600) -> None:
    """Let two processes share a run to its end."""
    with Joining() as processes:
        both = [processes.start(kind, out) for _ in range(2)]
        assert [process.wait(timeout=seconds) for process in both] == [0, 0]


@dataclass
class Killing:
    """Kills of one test.

    Attributes:
        kind: Of the runs, see `engine_parts.small_job`.
        whole: The unbroken run.
        folder: Where the runs are.
        wanted: Kills to be delivered.
        seed: Of the moments and of who is hit.
        killed: Who was hit -> how often.
        runs: Runs that ended and were compared.
        lost: Workers whose death a driver has told.
    """

    kind: str
    whole: Path
    folder: Path
    wanted: int
    seed: int
    killed: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    lost: int = 0

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    def __str__(self) -> str:
        hit = ", ".join(f"{n} of a {who}" for who, n in sorted(self.killed.items()))
        return f"{self.kind}: {self.killed.total()} kills ({hit}) in {self.runs} runs, identical"

    @property
    def _enough(self) -> bool:
        return self.killed.total() >= self.wanted

    def of_joined(self) -> None:
        """Kill either of two processes that share a run."""
        for out in self._folders():
            with Joining() as processes:
                both = [processes.start(self.kind, out) for _ in range(2)]
                while not self._enough and self._goes_on(out, both):
                    place = self._rng.randrange(2)
                    self._kill_child(both[place], "process")
                    both[place] = processes.start(self.kind, out)
                assert [process.wait(timeout=600) for process in both] == [0, 0]

    def of_ray(self) -> None:
        """Kill one of two Ray workers, or their driver."""
        for out in self._folders():
            for sitting in itertools.count():
                log = out.with_suffix(f".{sitting}.log")
                with Joining() as processes:
                    driver = processes.start(self.kind, out, "ray", log=log)
                    while not self._enough and self._goes_on(out, [driver]):
                        if not self._kill_worker(driver):
                            self._kill_child(driver, "driver")
                    code, said = driver.wait(timeout=900), log.read_text(encoding="utf-8")
                self.lost += said.count("was lost; its work is computed again")
                # an item that was killed three times, a machine too busy for Ray: told, and resumed
                told = "workers died" in said or "did not start" in said
                assert code in (0, -signal.SIGKILL) or told, said
                if code == 0 or (out / "manifest.json").exists():  # killed when all was written
                    break
                assert sitting < 2 * self.wanted + 3, "killed without coming further"

    def _folders(self):
        """Folders of runs, each compared when it is done, until there were enough kills."""
        while not self._enough:
            out = self.folder / f"run-{self.runs}"
            yield out
            assert identical(self.whole, out)
            self.runs += 1

    def _goes_on(self, out: Path, processes: Sequence[subprocess.Popen]) -> bool:
        """Wait until a run has stored something new, and a moment; False if a process ended."""
        before, end = _stored(out), time.monotonic() + PATIENCE_SECONDS
        while _stored(out) <= before:
            if any(process.poll() is not None for process in processes):
                return False
            assert time.monotonic() < end, "nothing new is stored"
            time.sleep(0.05)
        time.sleep(self._rng.uniform(0, SECONDS_AFTER))
        return all(process.poll() is None for process in processes)

    def _kill_worker(self, driver: subprocess.Popen) -> bool:
        """Kill a Ray worker; False if it is the driver's turn, or no worker is there."""
        if self._rng.random() >= SHARE_OF_WORKERS:
            return False
        try:
            children = psutil.Process(driver.pid).children(recursive=True)
            workers = [child for child in children if child.name().startswith("ray::Worker")]
            if not workers:
                return False
            hit = self._rng.choice(workers)
            hit.kill()
            hit.wait(60)
        except psutil.NoSuchProcess:  # gone by itself: no kill
            return True
        self.killed["worker"] += 1
        return True

    def _kill_child(self, process: subprocess.Popen, who: str) -> None:
        process.send_signal(signal.SIGKILL)
        self.killed[who] += process.wait() == -signal.SIGKILL


def _stored(out: Path) -> int:
    """Files of a run that hold results; folders may go while they are counted."""
    kept = itertools.chain.from_iterable(
        files for folder, _, files in os.walk(out) if not _LEFT_OUT & set(Path(folder).parts)
    )
    return sum(Path(name).suffix in (".parquet", ".json", ".npy") for name in kept)
