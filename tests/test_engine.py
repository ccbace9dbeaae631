"""Parts of engines: the local one, claims, batches that shrink, settings."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from broca import claims as claims_module
from broca.claims import Claims
from broca.engines import Engine, EngineSettings, LocalEngine, SharedEngine
from broca.engines.memory import BatchLimit
from broca.errors import BrocaError, EngineError
from broca.progress import step
from broca.run import execute, read_job
from engine_parts import Thirsty, small_job


def test_items_come_with_their_results_in_order():
    engine: Engine = LocalEngine()
    assert list(engine.map(lambda x: x * x, [3, 1, 2], "Squaring", [1, 1, 1])) == [
        (3, 9),
        (1, 1),
        (2, 4),
    ]
    assert list(engine.map(str, [])) == []


def test_an_item_is_computed_after_the_one_before_was_taken():
    """So that whatever was yielded can be stored before the next item is begun."""
    seen: list[int] = []
    results = LocalEngine().map(seen.append, [1, 2, 3])
    next(results)
    assert seen == [1]


def test_of_two_processes_one_holds_a_claim(tmp_path: Path):
    one, other = Claims(tmp_path / "claims"), Claims(tmp_path / "claims")
    with one.hold("unit") as held:
        assert held
        assert len(other.living()) == 1
        with other.hold("unit") as again:
            assert not again
    with other.hold("unit") as held:
        assert held
    assert not list((tmp_path / "claims").iterdir())


def test_claims_of_the_dead_are_taken_over(tmp_path: Path):
    claims = Claims(tmp_path, expiry=30)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for name, who in {
        "dead here": {**claims._who, "pid": gone.pid},
        "silent elsewhere": {"host": "another", "pid": 1},
        "living elsewhere": {"host": "another", "pid": 1},
    }.items():
        (tmp_path / name).write_text(str(who).replace("'", '"'), encoding="utf-8")
    then = time.time() - 40
    os.utime(tmp_path / "silent elsewhere", (then, then))
    taken = {}
    for name in ("dead here", "silent elsewhere", "living elsewhere"):
        with claims.hold(name) as taken[name]:
            pass
    assert taken == {"dead here": True, "silent elsewhere": True, "living elsewhere": False}


def test_a_held_claim_is_touched(tmp_path: Path):
    unit, touched = tmp_path / "unit", set()
    with Claims(tmp_path, expiry=0.4).hold("unit"):
        end = time.monotonic() + 60
        while len(touched) < 3:
            assert time.monotonic() < end, "it is not touched"
            touched.add(unit.stat().st_mtime_ns)
            time.sleep(0.01)


def test_claims_are_judged_by_the_clock_of_their_file_system(tmp_path: Path, monkeypatch):
    one, other = Claims(tmp_path), Claims(tmp_path)
    real = time.time
    with one.hold("unit"):
        for off in (-3600, 3600):
            monkeypatch.setattr(time, "time", lambda off=off: real() + off)
            assert len(other.living()) == 1
            with other.hold("unit") as held:
                assert not held
        (tmp_path / "silent").write_text('{"host": "another", "pid": 1}', encoding="utf-8")
        os.utime(tmp_path / "silent", (real() - 90, real() - 90))
        monkeypatch.setattr(time, "time", lambda: real() - 3600)
        assert len(other.living()) == 1
        with other.hold("silent") as held:
            assert held
    assert not list(tmp_path.iterdir())


def test_processes_of_another_container_are_not_taken_for_dead(tmp_path: Path):
    """It has this machine's name, and numbers of processes of its own."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    claims = Claims(tmp_path)
    for name, among in {"there": "pid:[1]", "here": claims._who["among"]}.items():
        who = {**claims._who, "pid": gone.pid, "among": among}
        (tmp_path / name).write_text(json.dumps(who), encoding="utf-8")
    with claims.hold("there") as there, claims.hold("here") as here:
        assert (there, here) == (False, True)


def test_a_claim_that_another_has_taken_is_left_to_it(tmp_path: Path):
    """The one that was silent neither touches nor deletes it."""
    claims, unit = Claims(tmp_path, expiry=0.4), tmp_path / "unit"
    with claims.hold("unit"):
        unit.unlink()
        unit.write_text('{"host": "another", "pid": 1, "token": "x"}', encoding="utf-8")
        then = time.time() - 10
        os.utime(unit, (then, then))
        time.sleep(0.5)
        assert unit.stat().st_mtime == pytest.approx(then, rel=0, abs=1)
    assert unit.exists()


def test_a_claim_that_was_renewed_meanwhile_is_put_back(tmp_path: Path):
    """Of two that see a dead claim, the slower one finds it touched, or taken by the quicker."""
    unit = tmp_path / "unit"
    unit.write_text('{"host": "another", "pid": 1}', encoding="utf-8")
    os.utime(unit, (0, 0))
    judged = claims_module._read(unit)
    assert judged is not None
    assert judged.is_dead(time.time(), 60)
    os.utime(unit)
    assert not claims_module._bury(unit, judged)
    judged = claims_module._read(unit)
    assert judged is not None
    assert not judged.is_dead(time.time(), 60)
    unit.unlink()
    with Claims(tmp_path).hold("unit") as held:
        assert held
        assert not claims_module._bury(unit, judged)
        found = claims_module._read(unit)
        assert found is not None
        assert "token" in found.who
        assert [path.name for path in tmp_path.iterdir()] == ["unit"]
        assert claims_module._bury(unit, found)
        assert not list(tmp_path.iterdir())


def test_a_claim_that_was_never_written_out_expires(tmp_path: Path):
    (tmp_path / "unit").write_text('{"host"', encoding="utf-8")
    claims = Claims(tmp_path, expiry=30)
    with claims.hold("unit") as held:
        assert not held
    os.utime(tmp_path / "unit", (0, 0))
    with claims.hold("unit") as held:
        assert held


def test_dead_claims_are_cleared_and_the_folder_with_them(tmp_path: Path):
    claims = Claims(tmp_path / "claims", expiry=30)
    claims.clear()
    with claims.hold("unit"):
        for name in ("dead", ".clock-there-1"):
            (claims.folder / name).touch()
            os.utime(claims.folder / name, (0, 0))
        claims.clear()
        assert {path.name for path in claims.folder.iterdir()} >= {"unit"}
        assert not (claims.folder / "dead").exists()
    claims.clear()
    assert not claims.folder.exists()
    with claims.hold("unit") as held:
        assert held


def test_nothing_is_claimed_in_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(EngineError, match="cannot claim work"),
        Claims(tmp_path / "file" / "claims").hold("unit"),
    ):
        pass


def test_a_claim_on_a_full_disk_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(json, "dump", full)
        with (
            pytest.raises(EngineError, match="cannot claim work: No space left"),
            Claims(tmp_path).hold("unit"),
        ):
            pass
    assert not list(tmp_path.iterdir())
    with Claims(tmp_path).hold("unit") as held:
        assert held


def test_work_goes_on_where_there_is_no_memory_for_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Under --max-memory a thread's stack may be too much; a claim that is not touched expires."""

    def short(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", short)
    with Claims(tmp_path).hold("unit") as held, step("Judging"):
        assert held
        assert [path.name for path in tmp_path.iterdir()] == ["unit"]
    assert not list(tmp_path.iterdir())


def test_what_others_have_stored_is_left_out(tmp_path: Path):
    stored = {"b"}
    engine = SharedEngine(tmp_path / "claims")
    found = []
    for item, result in engine.map(
        lambda x: x * x, [1, 2, 3], names=["a", "b", "c"], stored=stored.__contains__
    ):
        found.append((item, result))
    assert found == [(1, 1), (3, 9)]


def test_a_shortage_of_memory_halves_the_batch_and_is_remembered(capsys):
    limit = BatchLimit()
    assert limit.compute(Thirsty(64, most=20), 1) == 16
    assert limit.compute(Thirsty(64, most=20), 1) == 16
    assert limit.compute(Thirsty(8, most=20), 1) == 8
    assert capsys.readouterr().err.count("Memory ran out") == 1


def test_a_single_row_too_much_is_told():
    with pytest.raises(EngineError, match="single prompt"):
        BatchLimit().compute(Thirsty(4, most=0), 1)
    with pytest.raises(RuntimeError, match="another"):
        BatchLimit().compute(_raise, RuntimeError("another"))


def _raise(error: Exception):
    raise error


def test_rows_after_a_shortage_equal_those_without(tmp_path: Path, monkeypatch):
    """Every unit fails once at the full batch; log P stays within 1e-5."""
    from broca.run import bench

    plain = execute(small_job("effect"), tmp_path / "plain", report=False)
    compute = bench.Asking.__call__

    def failing(self: bench.Asking, unit: bench.Unit) -> list[Any]:
        if self.batch_size > 16:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return compute(self, unit)

    monkeypatch.setattr(bench.Asking, "__call__", failing)
    short = execute(small_job("effect"), tmp_path / "short", report=False)
    one, other = (run.rows.read().to_pydict() for run in (plain, short))
    assert one["prompt"] == other["prompt"]
    assert one["correct"] == other["correct"]
    assert one["log_p"] == pytest.approx(other["log_p"], abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "ray", "workers": 0}, "at least 1"),
        ({"workers": 2}, "--engine ray"),
        ({"max_memory": "much"}, "no amount"),
        ({"max_memory": "12"}, "no amount"),
        ({"max_memory": "999999999T"}, "no amount"),
        ({"max_memory": "9" * 400}, "no amount"),
        ({"kind": "ray", "gpus_per_worker": float("nan")}, "below 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, words: str):
    with pytest.raises(EngineError, match=words):
        EngineSettings(**settings)


def test_amounts_of_memory():
    for text, n in {"8G": 8 << 30, "1.5 GiB": 3 << 29, "800m": 800 << 20}.items():
        assert EngineSettings(max_memory=text).memory_bytes == n


def test_recipes_name_the_engine():
    values = {"studies": ["relations.intra"], "model": "atlas"}
    assert read_job(values).engine == EngineSettings()
    job = read_job({**values, "engine": {"kind": "ray", "workers": 2}})
    assert job.engine.workers == 2
    assert read_job({**values, "engine": "ray"}).engine.kind == "ray"
    assert "engine" not in job.as_config()
    with pytest.raises(BrocaError, match="no setting"):
        read_job({**values, "engine": {"wokers": 2}})
