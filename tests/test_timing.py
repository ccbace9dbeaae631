"""Rates from a few items in a few seconds, and runs that say how far off an estimate was."""

from __future__ import annotations

import json
import time

import pytest

from broca.cli.run import estimate_file, settings_text, tell_how_far_off
from broca.run.clock import Clock, elapsed
from broca.run.timing import LEAST_OFF, Rate, rate_of, spread
from broca.store import RunFolder
from broca.store.joining import note_joined


class Worker:
    """Takes its time per item and per call, and remembers what it was given."""

    def __init__(self, item: float, call: float = 0.0) -> None:
        self.item, self.call, self.done = item, call, 0

    def __call__(self, items) -> None:
        self.done += len(items)
        time.sleep(self.call + self.item * len(items))


def test_a_rate_is_that_of_large_samples():
    worker = Worker(item=0.002, call=0.02)
    rate = rate_of(worker, list(range(500)), budget=2.0)
    assert rate.seconds == pytest.approx(0.002 + 0.02 / 64, rel=0.5)
    assert worker.done > 1 + 1 + 4 + 16 + 50
    assert LEAST_OFF <= rate.off <= 1.0


def test_measuring_keeps_to_its_budget():
    worker = Worker(item=0.05)
    start = time.perf_counter()
    rate = rate_of(worker, list(range(500)), budget=0.4)
    assert time.perf_counter() - start < 1.5
    assert rate.seconds == pytest.approx(0.05, rel=0.5)
    slow = Worker(item=0.3)
    assert rate_of(slow, list(range(9)), budget=0.1).off == 1.0
    assert slow.done == 1


def test_nothing_takes_no_time():
    assert rate_of(Worker(1.0), []) == Rate(0.0)
    assert (Rate(6.0, 0.5) / 3) == Rate(2.0, 0.5)


def test_samples_are_spread():
    assert spread(list(range(100)), 4) == [12, 37, 62, 87]
    assert spread([1, 2], 16) == [1, 2]
    assert len(spread(list(range(65)), 64)) <= 64


def test_a_run_says_how_far_off_its_dry_run_was(tmp_path, capsys):
    class Folder:
        path = tmp_path / "run"
        summary = {"seconds": 120.0}  # noqa: RUF012
        config = {"studies": ("queries.find",), "shots": 4}  # noqa: RUF012

        @staticmethod
        def read_json(name: str) -> dict[str, float]:
            return json.loads((Folder.path / name).read_text())

    Folder.path.mkdir()
    tell_how_far_off(Folder)
    assert capsys.readouterr().err == ""
    said = {"seconds": 150.0, "settings": settings_text({**Folder.config, "shots": 2})}
    estimate_file(Folder.path).write_text(json.dumps(said))
    tell_how_far_off(Folder)  # of other settings: nothing is said
    assert capsys.readouterr().err == ""
    said["settings"] = settings_text(Folder.config)
    estimate_file(Folder.path).write_text(json.dumps(said))
    tell_how_far_off(Folder)
    assert "2.0 minutes; the dry run had said 2.5, 25% too much" in capsys.readouterr().err
    elapsed = Folder.path / "elapsed.json"
    elapsed.write_text('{"seconds": 120, "sittings": 3, "joined": 0}')
    tell_how_far_off(Folder)
    told = "2.0 minutes in 3 sittings; the dry run had said 2.5, 25% too much"
    assert told in capsys.readouterr().err
    elapsed.write_text('{"seconds": 120, "sittings": 1, "joined": 2}')
    tell_how_far_off(Folder)  # of one process, which others helped: no share of it is told
    told = "2.0 minutes with 2 more processes; the dry run had said 2.5 for a single process."
    assert told in capsys.readouterr().err
    estimate_file(Folder.path).write_text("{")
    tell_how_far_off(Folder)
    assert capsys.readouterr().err == ""


def test_the_time_of_a_run_is_that_of_all_its_sittings(tmp_path):
    run = RunFolder.create(tmp_path / "run", {"studies": ["queries.find"]})
    assert elapsed(run) == {"seconds": 0.0, "sittings": 0, "joined": 0}
    clock = Clock(run)
    time.sleep(0.05)
    clock.__exit__(KeyboardInterrupt, None, None)
    first = elapsed(run)
    assert (first["seconds"] >= 0.05, first["sittings"]) == (True, 1)
    with Clock(run) as clock:
        note_joined(run.path, {"torch": "2"})
        time.sleep(0.05)
        clock.store()  # as it is with every progress: what a kill leaves
    second = elapsed(run)
    assert (second["sittings"], second["joined"]) == (2, 1)
    assert second["seconds"] >= first["seconds"] + 0.05
