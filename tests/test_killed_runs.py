"""A whole-paper run killed at ten random moments ends as an unbroken one, row for row."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from broca.store import RunFolder

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


def _start(out: Path) -> subprocess.Popen[str]:
    settings = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "broca", "run", str(RECIPE), "--out", str(out), *settings]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ
    )


def _finish(out: Path) -> None:
    with _start(out) as process:
        said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, said


def _files(out: Path) -> int:
    """Files that a run has written: it grows with what is finished."""
    return sum(path.is_file() for path in out.rglob("*")) if out.exists() else 0


def _kill_beyond(out: Path, n_files: int, delay: float) -> bool:
    """Start or resume the run, and kill it a moment after it has written so many files."""
    with _start(out) as process:
        while process.poll() is None and _files(out) < n_files:
            time.sleep(0.02)
        time.sleep(delay)
        alive = process.poll() is None
        process.send_signal(signal.SIGKILL)
    return alive


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
