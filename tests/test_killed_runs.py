"""A whole-paper run killed at ten random moments ends as an unbroken one, row for row."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broca.store import RunFolder
from broca.store.files import files_in

RECIPE = Path(__file__).parent.parent / "recipes" / "relations" / "paper-quick.toml"
SMALL = {
    "relations": '["company_ceo", "landmark_country", "person_father"]',
    "languages": '["en", "de"]',
    "k_ladder": "[0.04, 0.08]",
    "n_evaluation": "6",
    "n_detection": "16",
    "n_checked": "6",
    "n_carriers": "4",
    "n_matched": "1",
    "n_uniform": "1",
    "n_shuffled": "1",
    "ladder_rungs": "3",
    "n_permutations": "200",
    "n_resamples": "100",
}
N_KILLS = 10


@contextmanager
def _started(out: Path) -> Iterator[subprocess.Popen]:
    """Start or resume the run; when the block ends, it is killed if it still runs."""
    settings = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "broca", "run", str(RECIPE), "--out", str(out), *settings]
    with _said(out).open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _said(out: Path) -> Path:
    """What a run says: a pipe that nobody reads would stop it once it is full."""
    return out.with_name(f"{out.name}.said")


def _finish(out: Path) -> None:
    with _started(out) as process:
        code = process.wait(timeout=900)
    assert code == 0, _said(out).read_text()


def _files(out: Path) -> int:
    """Files that a run has written: it grows with what is finished."""
    return sum(1 for _ in files_in(out))  # folders may go meanwhile


def _kill_beyond(out: Path, n_files: int, delay: float) -> bool:
    """Start or resume the run, and kill it a moment after it has written so many files."""
    with _started(out) as process:
        end = time.monotonic() + 900
        while process.poll() is None and _files(out) < n_files:
            assert time.monotonic() < end, _said(out).read_text()
            time.sleep(0.02)
        time.sleep(delay)
        return process.poll() is None


def _rows(out: Path) -> list[dict]:
    table = RunFolder.open(out).rows.read()
    return sorted(table.to_pylist(), key=lambda row: (row["condition"], row["prompt"]))


@pytest.mark.slow
def test_killed_at_ten_moments(tmp_path: Path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    _finish(whole)
    rng = random.Random()  # other moments every time; printed where the test fails
    moments = sorted(rng.randint(3, _files(whole) - 10) for _ in range(N_KILLS))
    delays = [rng.uniform(0, 0.5) for _ in moments]
    print("files written, seconds after:", list(zip(moments, delays, strict=True)))
    alive = [
        # A sitting is killed after it has itself written something, never while it still loads.
        _kill_beyond(killed, max(n, _files(killed) + 1), delay)
        for n, delay in zip(moments, delays, strict=True)
    ]
    assert sum(alive) >= N_KILLS // 2, "hardly any kill hit a living run"
    if not (killed / "manifest.json").exists():
        _finish(killed)
    for name in RunFolder.open(whole).set_names():
        sets = [(out / "sets" / f"{name}.json").read_bytes() for out in (whole, killed)]
        assert sets[0] == sets[1], name
    assert _rows(whole) == _rows(killed)
    assert RunFolder.open(killed).check() == []
