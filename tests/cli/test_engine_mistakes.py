"""Mistakes about where a run is computed: exit code 2, a sentence, nothing lost."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from broca.store import is_run, lock, write_toml
from cli.refusals import Broca, refused
from planted_files import QUICK


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--workers 0", "workers must be at least 1"),
        ("--workers -1", "workers must be at least 1"),
        ("--engine ray --workers -1", "workers must be at least 1"),
        ("--engine ray --workers two", "valid integer"),
        ("--workers 2", "Add --engine ray"),
        ("--gpus-per-worker 1", "Add --engine ray"),
        ("--gpus-per-worker 0", "Add --engine ray"),
        ("--address auto", "Add --engine ray"),
        ("--engine ray --gpus-per-worker -1", "below 0"),
        ("--engine slurm", "'local' or 'ray'"),
        ("--engine ray --set engine.wokers=2", "Did you mean 'workers'"),
        ("--max-memory much", "no amount of memory"),
        ("--join --engine ray", "Leave out --join or --engine ray"),
    ],
)
def test_options_that_cannot_be(
    broca: Broca, place: Path, tmp_path: Path, options: str, words: str
):
    out = tmp_path / "run"
    refused(broca("run", place / "recipe.toml", "--out", out, *options.split()), words)
    assert not out.exists()


def test_joining_what_is_not_named(broca: Broca, place: Path):
    refused(broca("run", place / "recipe.toml", "--join"), "Give it with --out")


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ("slurm", "'local' or 'ray'"),
        ({"kind": "dask", "workers": 2}, "'local' or 'ray'"),
        ({"kind": "ray", "workers": "two"}, "valid integer"),
        (3, "'local' or 'ray'"),
    ],
)
def test_recipes_with_engines_that_are_none(
    broca: Broca, tmp_path: Path, engine: object, words: str
):
    recipe = tmp_path / "recipe.toml"
    values = {**QUICK, "studies": ["relations.intra"], "model": "atlas", "engine": engine}
    recipe.write_text(write_toml(values), encoding="utf-8")
    refused(broca("run", recipe, "--out", tmp_path / "run"), words)


def test_what_was_there_stays_without_ray_and_without_locks(
    broca: Broca, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A run that cannot go on as asked goes on as it was."""
    out = tmp_path / "run"
    recipe = place / "recipe.toml"
    with monkeypatch.context() as broken:
        broken.setattr("broca.run.bench.Asking.__call__", _ended_by_hand)
        assert broca("run", recipe, "--out", out)[0] == 130
    before = _files(out)
    assert before
    with monkeypatch.context() as hidden:
        hidden.setattr("importlib.util.find_spec", lambda name: None)
        refused(broca("run", recipe, "--out", out, "--engine", "ray"), "pip install 'broca[ray]'")
    if find_spec("ray"):
        refused(
            broca("run", recipe, "--out", out, "--engine", "ray", "--address", "127.0.0.1:1"),
            "cannot be reached",
        )
    with monkeypatch.context() as without:
        without.setattr(lock.fcntl, "lockf", _no_locks)
        refused(broca("run", recipe, "--out", out), "knows no locks", "--out")
    assert before.items() <= _files(out).items()
    assert broca("run", recipe, "--out", out)[0] == 0


def test_a_second_driver_is_refused_and_harms_nothing(broca: Broca, place: Path, tmp_path: Path):
    """Until the first has finished; its files are whole afterwards."""
    out, recipe = tmp_path / "run", place / "recipe.toml"
    command = [sys.executable, "-m", "broca", "run", str(recipe), "--out", str(out)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as first:
        try:
            end = time.monotonic() + 120
            while not is_run(out) and time.monotonic() < end:
                time.sleep(0.01)
            os.kill(first.pid, signal.SIGSTOP)
            before = _files(out)
            refused(broca("run", recipe, "--out", out), "another process is writing this run")
            if find_spec("ray"):
                more = ("--engine", "ray")
                refused(broca("run", recipe, "--out", out, *more), "another process is writing")
            assert _files(out) == before
            os.kill(first.pid, signal.SIGCONT)
            assert first.wait(timeout=300) == 0
        finally:
            first.kill()
    assert broca("check", out)[0] == 0
    assert len(_files(out)) > len(before)


@pytest.mark.ray
@pytest.mark.parametrize("how", ["--workers 2 --gpus-per-worker 1", "--gpus-per-worker 99"])
def test_more_gpus_than_there_are(broca: Broca, place: Path, tmp_path: Path, how: str):
    if torch.cuda.device_count() > 1:
        pytest.skip("there are GPUs")
    out, recipe = tmp_path / "run", place / "recipe.toml"
    options = ("--out", out, "--engine", "ray", *how.split())
    refused(broca("run", recipe, *options), "GPUs in all, the cluster has")
    assert not out.exists() or broca("run", recipe, "--out", out)[0] == 0


@pytest.mark.ray
@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_something_else_answers(
    broca: Broca, place: Path, tmp_path: Path, scheme: str
):
    folder = tmp_path / "empty"
    folder.mkdir()
    command = [
        sys.executable,
        "-u",
        "-m",
        "http.server",
        "0",
        "--bind",
        "127.0.0.1",
        "-d",
        str(folder),
    ]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            port = re.search(r"port (\d+)", server.stdout.readline())[1]  # type: ignore[index]
            address = f"{scheme}127.0.0.1:{port}"
            options = ("--out", tmp_path / "run", "--engine", "ray", "--address", address)
            refused(broca("run", place / "recipe.toml", *options), "cannot be reached")
        finally:
            server.kill()


@pytest.mark.ray
def test_the_cluster_of_this_machine_where_there_is_none(broca: Broca, place: Path, tmp_path: Path):
    options = ("--out", tmp_path / "run", "--engine", "ray", "--address", "auto")
    refused(broca("run", place / "recipe.toml", *options), "cannot be reached", "ray start --head")


def _ended_by_hand(*_: object) -> None:
    raise KeyboardInterrupt


def _no_locks(*_: object) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def _files(out: Path) -> dict[str, bytes]:
    """Results that lie in a run."""
    kinds = (".parquet", ".npy", ".toml")
    found = (path for path in out.rglob("*") if path.suffix in kinds)
    return {str(path): path.read_bytes() for path in found}
