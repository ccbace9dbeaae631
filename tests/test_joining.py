"""Several processes on one run folder: what each is held to, who goes on, what comes too late."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from broca import progress
from broca.engines import LocalEngine
from broca.errors import RunError
from broca.run.choice_bench import ChoiceBench
from broca.run.keeping import keep
from broca.run.placing import wait_until_finished
from broca.store import (
    RowFolder,
    RunFolder,
    damage,
    environment,
    find_damage,
    finishing,
    folder,
)
from broca.store.files import files_in
from broca.store.lock import FolderBusyError
from store_rows import CONFIG, row
from test_sharing import MODEL, measure

ABOUT = {"fingerprint": "f", "device": "cpu", "versions": {"torch": "2", "numpy": "2"}}
HERE = {**ABOUT, "device_name": "p", "threads": 2}
NEWER = {**ABOUT, "versions": {"torch": "3", "numpy": "2"}}

HOLDER = """
import json, sys
from broca.store import RunFolder
path, config, about = sys.argv[1], *map(json.loads, sys.argv[2:])
with RunFolder.begin(path, config) as run:
    print("begun", flush=True)
    sys.stdin.readline()
    run.write_environment(about)
    print("told", flush=True)
    sys.stdin.readline()
    run.finish()
"""


class Holder:
    """Another process that has begun a run; it goes on when it is told to."""

    def __init__(self, path: Path) -> None:
        words = [str(path), json.dumps(CONFIG), json.dumps(ABOUT)]
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", HOLDER, *words]
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        assert self._said() == "begun"

    def _said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        """Write the environment, or finish the run."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def tell(self) -> None:
        """Write the environment; returns when it is there."""
        self.go_on()
        assert self._said() == "told"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def holding(path: Path) -> Iterator[Holder]:
    holder = Holder(path)
    try:
        yield holder
    finally:
        holder.kill()
        for stream in (holder.process.stdin, holder.process.stdout):
            assert stream is not None
            stream.close()


@pytest.mark.parametrize(
    ("own", "words"),
    [(NEWER, r"torch 2, now 3.*--accept"), ({**ABOUT, "fingerprint": "g"}, "other weights")],
)
def test_who_joins_at_once_is_held_to_what_the_run_is_computed_with(
    tmp_path: Path, own: dict[str, Any], words: str
) -> None:
    path = tmp_path / "run"
    with holding(path) as holder:
        run = RunFolder.join(path, CONFIG)
        assert run.joined
        later = threading.Timer(0.5, holder.go_on)  # its model loads
        later.start()
        with pytest.raises(RunError, match=words):
            run.write_environment(own)
        later.join()
        assert RunFolder.open(path).environment == ABOUT
        assert not (path / "joined").exists()


def test_who_joins_with_the_same_or_accepts_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "run"
    other = {**ABOUT, "device_name": "another"}
    with holding(path) as holder:
        holder.tell()
        RunFolder.join(path, CONFIG).write_environment(ABOUT)
        RunFolder.join(path, CONFIG).write_environment(other)
        RunFolder.join(path, CONFIG).write_environment(NEWER, accept_versions=True)
        holder.go_on()
        assert holder.process.wait(timeout=60) == 0
    joined = RunFolder.open(path).environment["joined"]
    assert sorted(joined, key=str) == sorted([other, NEWER], key=str)


@pytest.mark.parametrize(
    ("own", "told"),
    [
        (HERE, ""),
        ({**HERE, "threads": 8}, "threads 2, here 8"),
        ({**HERE, "device_name": "q"}, "device name p, here q"),
        ({**HERE, "device": "cuda:1", "threads": 8}, ""),  # threads matter to processors alone
    ],
)
def test_other_threads_or_devices_are_told_when_a_run_is_joined_or_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], own: dict[str, Any], told: str
) -> None:
    with RunFolder.begin(tmp_path / "run", CONFIG) as run:
        run.write_environment(HERE)
        run.rows.append([row("a", 1)])
        other = RunFolder.open(run.path)
        other.joined = True
        other.write_environment(own)
        joined = capsys.readouterr().err
    with RunFolder.begin(tmp_path / "run", CONFIG) as run:
        run.write_environment(own)
    for said in (joined, capsys.readouterr().err):
        assert said == "" if not told else told in said and "differ by rounding" in said


def test_who_joins_takes_the_place_of_one_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with holding(path) as holder:
        run = RunFolder.join(path, CONFIG)
        threading.Timer(0.3, holder.kill).start()
        with run:
            run.write_environment(NEWER)
            assert not run.joined
            assert run.environment == NEWER
            code = "import sys; from broca.store import RunFolder; "
            code += f"print(RunFolder.join(sys.argv[1], {CONFIG!r}).joined)"
            found = subprocess.run([sys.executable, "-c", code, path], capture_output=True)
            assert found.stdout.strip() == b"True"
            run.finish()
    assert RunFolder.open(path).check() == []


def test_who_is_told_nothing_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "TOLD_SECONDS", 0.3)
    with holding(tmp_path / "run"), pytest.raises(RunError, match="has not told"):
        RunFolder.join(tmp_path / "run", CONFIG).write_environment(ABOUT)


def test_waiting_for_the_end_reads_no_file_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even a refused resume: the lock is tried first. And that it waits is told."""
    path = tmp_path / "run"

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("files are read")

    with holding(path) as holder:
        holder.tell()
        monkeypatch.setattr(folder, "find_damage", refuse)
        monkeypatch.setattr(damage, "find_damage", refuse)
        with pytest.raises(FolderBusyError):
            RunFolder.resume(path, CONFIG)
        run = RunFolder.join(path, CONFIG)
        assert not run.is_abandoned()
        threading.Timer(0.5, holder.go_on).start()
        monkeypatch.setattr(progress, "LOG_SECONDS", 0.1)
        assert wait_until_finished(run)
        assert not run.is_abandoned()
    assert "Waiting for the process that began the run" in capsys.readouterr().err


def test_a_run_that_nobody_writes_any_more_is_taken_over(tmp_path: Path) -> None:
    with holding(tmp_path / "run") as holder:
        holder.tell()
        run = RunFolder.join(tmp_path / "run", CONFIG)
        threading.Timer(0.5, holder.kill).start()
        assert not wait_until_finished(run)
        assert not (tmp_path / "run" / ".lock").exists()


def test_folders_that_go_while_files_are_listed_are_left_out(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for below in ("c", "d"):
            (tmp_path / name / below).mkdir(parents=True)
            (tmp_path / name / below / "file").touch()
    (tmp_path / "first").touch()
    listed = files_in(tmp_path)
    assert next(listed) == tmp_path / "first"
    subprocess.run(["rm", "-r", tmp_path / "a", tmp_path / "b" / "c"], check=True)
    assert list(listed) == [tmp_path / "b" / "d" / "file"]


@pytest.mark.parametrize("damaged", [True, False])
def test_a_finished_run_is_mended_by_who_joins_if_it_is_damaged(
    tmp_path: Path, damaged: bool
) -> None:
    with RunFolder.begin(tmp_path / "run", CONFIG) as run:
        run.rows.append([row("a", 1)])
        run.finish()
    with pytest.raises(RunError, match="other settings"):
        RunFolder.join(tmp_path / "run", {**CONFIG, "k": 7})
    (part,) = run.rows.parts()
    if damaged:
        part.unlink()
    with RunFolder.join(tmp_path / "run", CONFIG) as joined:
        assert joined.joined == joined.finished == (not damaged)
        told = [str(one) for one in joined.mended]
        assert told == ([f"rows/{part.name} is missing"] if damaged else [])


def test_who_joins_as_the_run_is_finished_is_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder.begin(tmp_path / "run", CONFIG)
    run.rows.append([row("a", 1)])
    resume = RunFolder.resume

    def too_late(*arguments: Any) -> RunFolder:
        run.finish()
        return resume(*arguments)

    monkeypatch.setattr(RunFolder, "resume", too_late)
    assert RunFolder.join(tmp_path / "run", CONFIG).finished


# --- what comes when the run is finished -------------------------------------------------------


def test_rows_that_come_after_the_end_are_not_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the manifest, while it is made, and written before it and stored after it."""

    def begun(name: str) -> tuple[RunFolder, RunFolder]:
        run = RunFolder.begin(tmp_path / name, CONFIG)
        for key in ("a", "b"):
            run.rows.append([row(key, 1)])
        other = RunFolder.open(run.path)
        other.joined = True
        return run, other

    def whole(run: RunFolder) -> bool:
        assert len(run.rows.parts()) == 1
        assert run.rows.count() == run.read_json("manifest.json")["rows"] == 2
        return run.check() == []

    run, late = begun("late")
    run.finish()
    late.append_rows([row("a", 1)], ["a"])
    assert whole(run)

    run, slow = begun("slow")
    append = slow.rows.append

    def overtaken(*arguments: Any) -> Path:
        run.finish()
        return append(*arguments)

    monkeypatch.setattr(slow.rows, "append", overtaken)
    slow.append_rows([row("a", 1)], ["a"])
    assert whole(run)

    run, beside = begun("beside")
    make = finishing.make_manifest

    def together(*arguments: Any) -> dict[str, Any]:
        beside.append_rows([row("a", 1)], ["a"])
        return make(*arguments)

    monkeypatch.setattr(finishing, "make_manifest", together)
    run.finish()
    assert whole(run)


@pytest.mark.parametrize("kind", ["answers", "letters"])
def test_a_bench_that_was_silent_adds_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes nothing for stored, and has computed everything when the run is finished."""
    path = tmp_path / "run"
    whole = measure(kind, path, LocalEngine())[0]
    whole.folder.finish()
    before = {file: file.stat().st_mtime_ns for file in files_in(path)}
    silent = RunFolder.join(path, {})
    monkeypatch.setattr(RunFolder, "begin", lambda *_: silent)
    with monkeypatch.context() as patch:
        patch.setattr(RowFolder, "finished", lambda _: frozenset())
        measure(kind, path, LocalEngine())
    assert {file: file.stat().st_mtime_ns for file in files_in(path)} == before
    assert find_damage(path) == []


class Overtaken(LocalEngine):
    """Another process stores everything and finishes the run while this one computes."""

    def __init__(self, folder: RunFolder, file_of: Callable[[Any], str]) -> None:
        super().__init__()
        self.folder, self.file_of = folder, file_of

    def map(self, function: Any, items: Any, *options: Any, **more: Any) -> Any:
        for item in items:
            self.folder.write_json(self.file_of(item), {"by": "another"})
            self.folder.write_json("manifest.json", {})
            yield item, {"by": "us"}


def test_values_that_come_after_the_end_are_not_stored(tmp_path: Path) -> None:
    with RunFolder.begin(tmp_path / "run", CONFIG) as run:
        engine = Overtaken(run, lambda item: f"{item[0].replace('-', '/')}.json")
        found = keep(run, engine, MODEL, "known", lambda *_: {"by": "us"}, [({"n": 1}, None)])
    assert found == [{"by": "another"}]


def test_attributions_that_come_after_the_end_are_not_stored(tmp_path: Path) -> None:
    part: Any = SimpleNamespace(size=1, determinants=lambda: {"n": 1})
    with RunFolder.begin(tmp_path / "run", CONFIG) as run:
        bench = ChoiceBench(MODEL, run, Overtaken(run, lambda one: bench._portion_name(one)))
        assert bench.attribute([part]) == [{"by": "another"}]


def test_rows_are_read_while_another_process_compacts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder.begin(tmp_path / "run", CONFIG)
    for key in ("a", "b", "c"):
        run.rows.append([row(key, 1)])
    expected = run.rows.read()
    for look in ("read", "finished"):
        other = RunFolder.open(run.path).rows
        listed = other.parts()
        run.rows.append([row(look, 1)])
        run.rows.compact()
        left = iter([listed])
        parts = other.parts
        monkeypatch.setattr(other, "parts", lambda p=parts, left=left: next(left, None) or p())
        if look == "read":
            assert other.read(conditions=["a", "b", "c"]).equals(expected)
        else:
            assert other.finished() == {"a", "b", "c", "read", "finished"}
