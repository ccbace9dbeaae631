"""Progress in a log: lines now and then, nothing inside another bar."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from rich.console import Console

from broca import progress
from broca.claims import Claims
from broca.processes import this_process
from broca.store import RunFolder, list_runs


@pytest.fixture
def every_item(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOG_SECONDS", 0)


@pytest.mark.usefixtures("every_item")
def test_a_log_says_how_far_it_is(capsys: pytest.CaptureFixture[str]):
    assert list(progress.track("abc", "Reading", weights=[1, 2, 5])) == ["a", "b", "c"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "Reading: 1 of 8",
        "Reading: 3 of 8",
        "Reading: 8 of 8",
    ]


@pytest.mark.usefixtures("every_item")
def test_the_inner_of_two_is_silent(capsys: pytest.CaptureFixture[str]):
    for _ in progress.track(range(2), "Outer"):
        list(progress.track(range(3), "Inner"))
    assert "Inner" not in capsys.readouterr().err


@pytest.mark.usefixtures("every_item")
def test_a_broken_loop_leaves_the_next_one_audible(capsys: pytest.CaptureFixture[str]):
    for _ in progress.track(range(3), "Broken"):
        break
    list(progress.track(range(1), "Next"))
    assert "Next: 1 of 1" in capsys.readouterr().err


def test_a_step_that_cannot_count_says_that_it_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.01)
    with progress.step("Writing"):
        time.sleep(0.2)
        list(progress.track("ab", "Inner"))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2
    assert all(line.startswith("Writing: ") and line.endswith(" s so far") for line in lines)
    n_threads = threading.active_count()
    with pytest.raises(ZeroDivisionError), progress.step("Failing"):
        _ = 1 / 0
    assert threading.active_count() == n_threads
    assert not progress._showing.get()


def test_short_work_writes_nothing(capsys: pytest.CaptureFixture[str]):
    list(progress.track(iter("abc"), "Reading"))
    assert capsys.readouterr().err == ""


def test_a_watcher_is_told_at_the_beginning_and_at_the_end() -> None:
    told: list[progress.Reached] = []
    with progress.watched(told.append), progress.progress_bar("Judging", 2) as advance:
        assert [(one.done, one.total) for one in told] == [(0, 2)]
        advance(2)
    assert [one.done for one in told] == [0, 2]


@pytest.mark.parametrize(
    ("done", "seconds", "words"),
    [
        (0, 0.0, "Judging: 0 of 300"),
        (100, 10.0, "Judging: 100 of 300, 10.0/s, 20 s left"),
        (100, 250.0, "Judging: 100 of 300, 2.5 s each, 8 min left"),
    ],
)
def test_slow_work_is_told_by_the_seconds_of_each_piece(done: int, seconds: float, words: str):
    assert progress.in_words(progress.Reached("Judging", done, 300, seconds)) == words


def test_a_line_told_meanwhile_stands_above_the_bar():
    written = Console(width=100, force_terminal=True, file=io.StringIO(), color_system=None)
    with progress._drawn(written, "Judging", 4) as show:
        show(progress.Reached("Judging", 1, 4, 1.0))
        progress.tell("Worker 0 was lost.")
    assert isinstance(written.file, io.StringIO)
    before, told, _ = written.file.getvalue().partition("Worker 0 was lost.\n")
    assert told
    assert before.endswith(("\n", "\x1b[2K"))  # on a line that was cleared
    assert progress._drawing.get() is None


def test_workers_fit_on_a_line_of_a_hundred_columns():
    written = Console(width=100, force_terminal=True, file=io.StringIO(), color_system=None)
    with progress._drawn(written, "Measuring relations.intra", 1032) as show:
        show(progress.Reached("", 252, 1032, 5.0, "1 of 2 workers, 1 lost"))
    assert isinstance(written.file, io.StringIO)
    assert "1 of 2 workers, 1 lost" in written.file.getvalue()


def test_steps_are_told_to_watchers():
    told: list[progress.Reached] = []
    with progress.watched(told.append), progress.step("Writing the page"):
        pass
    assert [progress.in_words(one) for one in told] == ["Writing the page"]


def test_the_bar_knows_the_time_left_of_slow_pieces(monkeypatch: pytest.MonkeyPatch):
    """Pieces of two minutes: a bar that looks back for half a minute knows nothing."""
    now = 1000.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    written = Console(width=160, force_terminal=True, file=io.StringIO(), color_system=None)
    with progress._drawn(written, "Judging", 4) as show:
        now += 120
        show(progress.Reached("Judging", 1, 4, 120.0, "2 of 2 workers"))
        now += 20
    assert isinstance(written.file, io.StringIO)
    line = written.file.getvalue().replace("\r", "\n").splitlines()
    assert any("1/4 120.0 s each" in one and "left 0:05:40 2 of 2 workers" in one for one in line)


def test_runs_going_on_elsewhere_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """While the process is there; when it is gone; and when nothing was heard for a while.

    By the clock of the file system, whatever that of the machine is where one looks.
    """
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with RunFolder.create(tmp_path / "run", {"study": "s"}) as folder:

        def reached(by: dict, seconds_ago: float = 0) -> str:
            told = asdict(progress.Reached("Judging", 20, 60, 10.0, "2 of 2 workers"))
            folder.write_json("progress.json", {**told, "by": by})
            then = time.time() - seconds_ago
            os.utime(folder.path / "progress.json", (then, then))
            with monkeypatch.context() as patch:  # the one who looks has another clock
                patch.setattr(time, "time", lambda: then + 1e4)
                return list_runs(tmp_path)[0].reached

        whole = "Judging: 20 of 60, 2.0/s, 20 s left, 2 of 2 workers"
        assert reached(this_process()) == whole
        assert reached({"host": "elsewhere", "pid": gone.pid}) == whole
        assert reached({**this_process(), "pid": gone.pid}) == "stopped, Judging: 20 of 60"
        assert reached(this_process(), 70) == f"{whole} (1 minute ago)"
        assert reached(this_process(), 170) == f"{whole} (3 minutes ago)"
        with Claims(folder.claims_path).hold("unit"):
            me = f"process {os.getpid()} of {socket.gethostname()}"
            assert reached({**this_process(), "pid": gone.pid}) == (
                f"Judging: 20 of 60 when whoever began it ended; still computing: {me}"
            )
        assert reached({**this_process(), "pid": gone.pid}) == "stopped, Judging: 20 of 60"
