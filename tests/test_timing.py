"""Rates from a few items in a few seconds, and runs that say how far off an estimate was."""

from __future__ import annotations

import json
import time

import pytest

from broca.cli.run import estimate_file, settings_text, tell_how_far_off
from broca.run.timing import LEAST_OFF, Rate, rate_of, spread


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
    estimate_file(Folder.path).write_text("{")
    tell_how_far_off(Folder)
    assert capsys.readouterr().err == ""
