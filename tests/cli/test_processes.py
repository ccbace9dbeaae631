"""Commands in processes of their own, side by side or killed: `--join`, `--accept`, `kill -9`."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from broca.engines import worker
from broca.run import environment, placing
from broca.store import RunFolder, sha256_of
from cli.refusals import Broca, refused
from engine_parts import CHANGING
from test_run import Stopping

MAIN = "import sys; from broca.__main__ import main; main(sys.argv[1:])"
SLOW = """
import time
from pathlib import Path
from broca.run.job import ModelSettings
load = ModelSettings.load
def when_told(self):
    while not Path({go!r}).exists():
        time.sleep(0.05)
    return load(self)
ModelSettings.load = when_told
"""
OLDER = """
from pathlib import Path
from broca.engines import worker
from broca.run import execute
known, about = worker._version, execute.__globals__["environment_of"]
worker._version = lambda name: "0.1" if name == "torch" else known(name)
def noted(model):
    Path({loaded!r}).touch()
    return about(model)
execute.__globals__["environment_of"] = noted
"""
KILLED = """
import os
from broca import responses
record, calls = responses._record, []
def killing(*arguments):
    record(*arguments)
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), 9)
responses._record = killing
"""


@contextmanager
def started(words: Sequence[object], said: Path, before: str = "") -> Iterator[subprocess.Popen]:
    """A command in a process, in which something was changed before; killed if it still runs.

    What it says goes into a file: a pipe that nobody reads would stop it once it is full.
    """
    command = [sys.executable, "-c", before + MAIN, *map(str, words)]
    with said.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(file: Path) -> None:
    end = time.monotonic() + 120
    while not file.exists():
        assert time.monotonic() < end, file
        time.sleep(0.05)


def test_other_versions_do_not_join_a_run_that_is_just_begun(place: Path, tmp_path: Path):
    """The one that joins has loaded its model long before the one that began the run."""
    out, go, loaded, said = (tmp_path / name for name in ("run", "go", "loaded", "said"))
    words = ("run", place / "recipe.toml", "--out", out)
    with started(words, tmp_path / "driver", SLOW.format(go=str(go))) as driver:
        wait_for(out / "config.toml")
        with started([*words, "--join"], said, OLDER.format(loaded=str(loaded))) as joining:
            wait_for(loaded)
            time.sleep(0.5)
            go.touch()
            code = joining.wait(timeout=240)
        told = " ".join(said.read_text().split())
        assert code == 2, told
        assert f"torch {version('torch')}, now 0.1" in told
        assert "--accept" in told
        assert driver.wait(timeout=240) == 0
    run = RunFolder.open(out)
    assert run.check() == []
    assert "joined" not in run.environment
    assert run.environment["device_name"]


def files(run: Path) -> dict[str, str]:
    return {
        str(file.relative_to(run)): sha256_of(file) if file.name not in CHANGING else ""
        for file in sorted(run.rglob("*"))
        if file.is_file()
    }


def test_a_recording_killed_in_the_middle_leaves_the_files_of_an_unbroken_run(
    broca: Broca, place: Path, finished: Path, tmp_path: Path
):
    out = tmp_path / "run"
    words = ("run", place / "recipe.toml", "--out", out)
    with started(words, tmp_path / "said", KILLED) as process:
        code = process.wait(timeout=240)
    assert code == -signal.SIGKILL, (tmp_path / "said").read_text()
    assert list(out.rglob("*.writing-*")), "it was killed elsewhere"
    assert list((out / ".claims").iterdir())
    code, _, err = broca(*words)
    assert code == 0, err
    assert files(out) == files(finished)
    listed = [RunFolder.open(run).read_json("manifest.json")["files"] for run in (out, finished)]
    assert listed[0].keys() == listed[1].keys()


FIND = ("find", "relations", "--sites", "hidden", "--top", "6")
FIND_SETTINGS = ("--set", "n_evaluation=10", "--set", "min_detection=4", "--form", "question")


def older(monkeypatch: pytest.MonkeyPatch) -> None:
    known = worker._version
    monkeypatch.setattr(worker, "_version", lambda name: "0.1" if name == "torch" else known(name))


def stopping(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    monkeypatch.setattr(placing, "SharedEngine", lambda folder, log: Stopping(after))


def interrupted_find(broca: Broca, place: Path, out: Path) -> tuple[Any, ...]:
    """Begin to find neurons and stop in the middle; the command's words."""
    source: tuple[Any, ...] = ("--facts", place / "facts" / "facts.jsonl", "--out", out)
    words = (*FIND, *FIND_SETTINGS, *source, "--model", place / "model")
    with pytest.MonkeyPatch.context() as patch:
        stopping(patch, 2)
        assert broca(*words)[0] == 130
    return words


def test_find_relations_goes_on_with_other_versions_only_when_told(
    broca: Broca, place: Path, tmp_path: Path
):
    words = interrupted_find(broca, place, tmp_path / "n")
    with pytest.MonkeyPatch.context() as patch:
        older(patch)
        refused(broca(*words), f"torch {version('torch')}, now 0.1", "--accept")
        code, _, err = broca(*words, "--accept")
        assert code == 0, err
    assert {file.name for file in (tmp_path / "n").iterdir()} == {
        "father.json", "ceo.json", "river.json"
    }  # fmt: skip


def test_find_relations_goes_on_with_the_same_weights_only(
    broca: Broca, place: Path, tmp_path: Path
):
    words = interrupted_find(broca, place, tmp_path / "n")
    with pytest.MonkeyPatch.context() as patch:
        about = environment.environment_of
        other = lambda model: {**about(model), "fingerprint": "other"}  # noqa: E731
        patch.setattr("broca.run.find.environment_of", other)
        refused(broca(*words, "--accept"), "other weights")
    assert broca(*words)[0] == 0


def test_an_interrupted_process_that_joined_is_told_to_join_again(
    broca: Broca, place: Path, tmp_path: Path
):
    out = tmp_path / "run"
    words = ("run", place / "recipe.toml", "--out", out, "--join", "--accept")
    with pytest.MonkeyPatch.context() as patch:
        stopping(patch, 2)
        code, _, err = broca(*words)
    assert code == 130
    assert f"resume with: broca {' '.join(map(str, words))}" in " ".join(err.split())
